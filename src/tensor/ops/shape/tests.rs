#![allow(clippy::unwrap_used)]
use super::*;
use crate::tensor::DType;

/// 0 1 2 / 3 4 5
fn six() -> Tensor {
    Tensor::from_slice(&[0i32, 1, 2, 3, 4, 5]).unwrap().view(&[2, 3]).unwrap()
}

fn values(t: &Tensor) -> Vec<i32> {
    t.to_vec().unwrap()
}

#[test]
fn views_share_their_elements() {
    let t = six();
    t.narrow(1, 1, 2).unwrap().fill(9).unwrap();
    t.select(0, 1).unwrap().narrow(0, 0, 1).unwrap().fill(7).unwrap();
    assert_eq!(values(&t), [0, 9, 9, 7, 9, 9]);
}

#[test]
fn a_transpose_swaps_rows_and_columns() {
    let t = six().t().unwrap();
    assert_eq!((t.sizes(), values(&t)), (&[3, 2][..], vec![0, 3, 1, 4, 2, 5]));
    assert!(six().select(0, 0).unwrap().t().is_err());
}

#[test]
fn ranges_count_from_one_and_back_from_the_end() {
    let t = six();
    assert_eq!(values(&t.sub(&[(2, 2), (-2, -1)]).unwrap()), [4, 5]);
    for bad in [(0, 1), (1, 3), (2, 1), (-3, 1), (i64::MIN, i64::MAX)] {
        assert!(t.sub(&[bad]).is_err(), "{bad:?}");
    }
    let e = t.sub(&[(1, 1), (1, 4)]).unwrap_err();
    assert_eq!(e.what(), "index 4 is out of range: dimension 2 has 3 elements");
    assert!(t.sub(&[(1, 1), (1, 1), (1, 1)]).is_err());
}

#[test]
fn one_size_of_a_view_may_be_left_open() {
    let t = six();
    assert_eq!(t.view(&[-1]).unwrap().sizes(), [6]);
    assert_eq!(t.view(&[3, -1, 1]).unwrap().sizes(), [3, 2, 1]);
    for bad in [&[4, -1][..], &[-1, -1], &[7], &[], &[-2, 3], &[0, -1], &[i64::MAX, i64::MAX], &[1 << 62, -1]] {
        assert!(t.view(bad).is_err(), "{bad:?}");
    }
    assert!(t.t().unwrap().view(&[6]).is_err());
    assert_eq!(values(&t.t().unwrap().reshape(&[6]).unwrap()), [0, 3, 1, 4, 2, 5]);
}

#[test]
fn expanding_repeats_without_copying() {
    let t = Tensor::from_slice(&[1i32, 2]).unwrap().view(&[2, 1]).unwrap();
    let e = t.expand(&[2, 3]).unwrap();
    assert_eq!((e.strides(), values(&e)), (&[1, 0][..], vec![1, 1, 1, 2, 2, 2]));
    assert_eq!(t.expand(&[4, 2, 2]).unwrap().numel(), 16);
    for bad in [&[2][..], &[3, 1], &[2, 0], &[2, 1 << 62]] {
        assert!(t.expand(bad).is_err(), "{bad:?}");
    }
    assert!(Tensor::new(DType::Int).expand(&[2]).is_err());
}

#[test]
fn squeezing_leaves_at_least_one_dimension() {
    let t = Tensor::with_sizes(DType::Int, &[1, 2, 1]).unwrap();
    assert_eq!(t.squeeze().sizes(), [2]);
    assert_eq!(t.squeeze_dim(0).unwrap().sizes(), [2, 1]);
    assert_eq!(t.squeeze_dim(1).unwrap().sizes(), [1, 2, 1]);
    assert_eq!(Tensor::with_sizes(DType::Int, &[1, 1]).unwrap().squeeze().sizes(), [1]);
    assert_eq!(t.unsqueeze(3).unwrap().sizes(), [1, 2, 1, 1]);
    assert!(t.unsqueeze(4).is_err());
}

#[test]
fn windows_slide_along_a_dimension() {
    let t = Tensor::from_slice(&[1i32, 2, 3, 4, 5]).unwrap();
    let u = t.unfold(0, 3, 2).unwrap();
    assert_eq!((u.sizes(), values(&u)), (&[2, 3][..], vec![1, 2, 3, 3, 4, 5]));
    assert!(t.unfold(0, 6, 1).is_err() && t.unfold(0, 1, 0).is_err());
    assert!(t.unfold(0, 3, usize::MAX).is_ok());
}

#[test]
fn what_is_out_of_range_says_so_in_the_users_counting() {
    let t = six();
    let e = t.narrow(1, 2, 2).unwrap_err();
    assert_eq!(e.what(), "2 elements from 3 on are out of range: dimension 2 has 3 elements (size 2x3)");
    for (dim, start, len) in [(2, 0, 1), (usize::MAX, 0, 1), (0, usize::MAX, 2), (0, 0, 0), (0, 0, usize::MAX)] {
        assert!(t.narrow(dim, start, len).is_err());
    }
    assert!(Tensor::new(DType::Int).select(0, 0).is_err());
}

#[test]
fn a_resize_keeps_the_storage_and_lets_it_grow() {
    let mut t = six();
    let before = t.storage().unwrap().id();
    t.resize(&[2]).unwrap();
    assert_eq!((values(&t), t.storage().unwrap().len()), (vec![0, 1], 6));
    t.resize(&[2, 4]).unwrap();
    assert_eq!((values(&t), t.storage().unwrap().id()), (vec![0, 1, 2, 3, 4, 5, 0, 0], before));
    let mut transposed = six().t().unwrap();
    transposed.resize(&[3, 2]).unwrap();
    assert_eq!(transposed.strides(), [1, 3]);
    assert!(t.resize(&[1 << 62]).is_err());
    assert_eq!(t.sizes(), [2, 4]);
}

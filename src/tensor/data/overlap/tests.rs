#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::tensor::{Binary, Compare, DType, Scalar, Storage, Tensor, Unary};

/// Places of the storage that the views are of.
const PLACES: usize = 64;

/// Two layouts of equally many elements within [`PLACES`]: of one shape, or of two; strides are any, 0 included.
fn layouts() -> impl Strategy<Value = [Layout; 3]> {
    let shape = prop::collection::vec(1usize..5, 1..4);
    let strides = || prop::collection::vec(prop_oneof![3 => 0usize..6, 1 => 6usize..13], 4);
    let view = || (strides(), any::<prop::sample::Index>(), 0u8..4);
    (shape, [view(), view(), view()]).prop_map(|(shape, views)| {
        let mut before: Option<Layout> = None;
        views.map(|(strides, at, kind)| {
            let sizes = match kind {
                0 => vec![shape.iter().product()],
                1 => shape.iter().rev().copied().collect(),
                _ => shape.clone(),
            };
            let mut strides: Vec<isize> = strides[..sizes.len()].iter().map(|&s| s as isize).collect();
            // Often the strides of the view before, which differs in its offset alone then.
            if let Some(before) = before.as_ref().filter(|b| kind == 3 && b.sizes() == sizes) {
                strides = before.strides().to_vec();
            }
            while Layout::new(0, &sizes, Some(&strides)).unwrap().end() > PLACES {
                let most = (0..strides.len()).max_by_key(|&d| strides[d] as usize * sizes[d]).unwrap();
                strides[most] -= 1;
            }
            let end = Layout::new(0, &sizes, Some(&strides)).unwrap().end();
            let layout = Layout::new(at.index(PLACES - end + 1), &sizes, Some(&strides)).unwrap();
            before = Some(layout.clone());
            layout
        })
    })
}

fn storage(dtype: DType) -> Storage {
    let storage = Storage::new(dtype, PLACES).unwrap();
    (0..PLACES).for_each(|i| storage.put(i, (i * 7 % 31) as i64).unwrap());
    storage
}

fn view(storage: &Storage, layout: &Layout) -> Tensor {
    Tensor::from_storage(storage, layout.offset(), layout.sizes(), Some(layout.strides())).unwrap()
}

fn places(layout: &Layout) -> Vec<usize> {
    layout.places().collect()
}

fn contents(storage: &Storage) -> Vec<f64> {
    (0..PLACES).map(|i| storage.get(i).unwrap().to_f64()).collect()
}

/// What the storage holds after `compute` did its work on copies of the sources and the results were written one
/// after the other.
fn copied_first(dtype: DType, layouts: &[Layout; 3], compute: &dyn Fn(&Tensor, [&Tensor; 3])) -> Vec<f64> {
    let storage = storage(dtype);
    let copies = layouts.each_ref().map(|l| view(&storage, l).clone_data().unwrap());
    let result = copies[0].clone_data().unwrap();
    compute(&result, copies.each_ref());
    let values: Vec<Scalar> =
        places(result.layout()).iter().map(|&at| result.storage().unwrap().get(at).unwrap()).collect();
    places(&layouts[0]).iter().zip(values).for_each(|(&at, v)| storage.put(at, v).unwrap());
    contents(&storage)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn overlapping_operands_are_as_if_they_had_been_copied_first(
        l in layouts(), d in 0..DType::ALL.len(), op in 0u8..10,
    ) {
        let dtype = DType::ALL[d];
        let compute = |r: &Tensor, [own, a, b]: [&Tensor; 3]| match op {
            0 => r.copy_from(a).unwrap(),
            1 => r.unary(Unary::Abs, a).unwrap(),
            2 => r.binary(Binary::Add, own, a).unwrap(),
            3 => r.binary(Binary::Sub, a, b).unwrap(),
            4 => r.binary_scalar(Binary::Add, own, 1).unwrap(),
            5 => r.add_scaled(own, 2, a).unwrap(),
            6 => r.addcmul(own, 1, a, b).unwrap(),
            7 => r.compare(Compare::Lt, a, b).unwrap(),
            8 => r.clamp(a, 3, 9).unwrap(),
            _ => r.scalar_binary(Binary::Sub, 5, own).unwrap(),
        };
        let wanted = copied_first(dtype, &l, &compute);
        let storage = storage(dtype);
        let views = l.each_ref().map(|l| view(&storage, l));
        compute(&views[0], views.each_ref());
        prop_assert_eq!(contents(&storage), wanted);
    }

    #[test]
    fn views_that_share_a_place_meet(l in layouts()) {
        let storage = storage(DType::Int);
        let [a, b, _] = l.each_ref().map(|l| view(&storage, l));
        let (of_a, of_b) = (places(&l[0]), places(&l[1]));
        if of_a.iter().any(|at| of_b.contains(at)) {
            prop_assert!(a.meets(&b).unwrap() && b.meets(&a).unwrap());
        }
        let mut once = of_a.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert!(repeats(&l[0]) || once.len() == of_a.len());
    }

    #[test]
    fn products_may_be_written_over_their_factors(l in layouts(), shift in 0usize..20) {
        let dtype = DType::Double;
        let square = |storage: &Storage, at: usize, strides: [isize; 2]| {
            Tensor::from_storage(storage, at, &[4, 4], Some(&strides)).unwrap()
        };
        let (one, two) = (storage(dtype), storage(dtype));
        let of = |s: &Storage| [square(s, shift, [4, 1]), square(s, 3, [1, 4]), square(s, l[0].offset() % 8, [5, 1])];
        let [r, a, b] = of(&one);
        let wanted = Tensor::with_sizes(dtype, &[4, 4]).unwrap();
        let (a, b) = (a.clone_data().unwrap(), b.clone_data().unwrap());
        wanted.addmm(Scalar::Int(0), &wanted, Scalar::Int(1), &a, &b).unwrap();
        r.copy_from(&wanted).unwrap();
        let [r, a, b] = of(&two);
        r.addmm(Scalar::Int(0), &r, Scalar::Int(1), &a, &b).unwrap();
        prop_assert_eq!(contents(&one), contents(&two));
    }
}

#[test]
fn columns_and_blocks_of_a_matrix_do_not_meet() {
    let m = Tensor::with_sizes(DType::Float, &[10, 10]).unwrap();
    let disjoint = [
        (m.select(1, 2).unwrap(), m.select(1, 3).unwrap()),
        (m.narrow(1, 0, 5).unwrap(), m.narrow(1, 5, 5).unwrap()),
        (m.narrow(1, 0, 3).unwrap().narrow(0, 2, 4).unwrap(), m.narrow(1, 3, 7).unwrap().narrow(0, 5, 5).unwrap()),
        (m.narrow(0, 0, 5).unwrap(), m.narrow(0, 5, 5).unwrap()),
        (m.clone(), m.clone_data().unwrap()),
    ];
    for (a, b) in &disjoint {
        assert!(!a.meets(b).unwrap() && !b.meets(a).unwrap(), "{a:?} {b:?}");
    }
    assert!(m.narrow(1, 0, 6).unwrap().meets(&m.narrow(1, 5, 5).unwrap()).unwrap());
    // In step, and without a place twice: no copy.
    assert!(!disturbs(&m.t().unwrap().operand().unwrap(), &m.t().unwrap().operand().unwrap()));
    assert!(disturbs(&m.operand().unwrap(), &m.t().unwrap().operand().unwrap()));
}

#[test]
fn slices_and_elements_may_come_from_the_tensor_itself() {
    let t = Tensor::from_slice(&[1i64, 2, 3]).unwrap();
    t.index_copy(0, &Tensor::from_slice(&[2i64, 3, 1]).unwrap(), &t).unwrap();
    assert_eq!(t.to_vec::<i64>().unwrap(), [3, 1, 2]);
    t.scatter(0, &t, &t).unwrap();
    assert_eq!(t.to_vec::<i64>().unwrap(), [1, 2, 3]);
    let odd = t.narrow(0, 1, 2).unwrap();
    t.narrow(0, 0, 2)
        .unwrap()
        .index_copy(0, &odd.clone_data().unwrap().narrow(0, 0, 1).unwrap(), &odd.narrow(0, 1, 1).unwrap())
        .unwrap();
    assert_eq!(t.to_vec::<i64>().unwrap(), [1, 3, 3]);
}

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::overlap::repeats;
use super::*;

fn of(views: &[&Tensor]) -> Stretches {
    Stretches::of(&views.iter().copied().cloned().collect::<Vec<_>>()).unwrap()
}

/// What each view is at the other end: a view of its stretch, which has arrived in a storage of its own, or a copy.
fn arrived(views: &[Tensor]) -> Vec<Tensor> {
    let found = Stretches::of(views).unwrap();
    let storages = found.stretches.iter().map(|stretch| {
        let storage = Storage::new(stretch.dtype, stretch.span.len() / stretch.dtype.size()).unwrap();
        storage.span().unwrap().write(0, &stretch.span.to_vec());
        storage
    });
    let storages: Vec<_> = storages.collect();
    let arrive = |(view, share): (&Tensor, &Option<Share>)| match share {
        Some(share) => {
            Tensor::in_stretch(&storages[share.stretch], share.offset, view.sizes(), &share.strides).unwrap()
        }
        None => view.clone_data().unwrap(),
    };
    views.iter().zip(&found.shares).map(arrive).collect()
}

#[test]
fn who_meets_nobody_is_alone() {
    let (a, b) = (Tensor::with_sizes(DType::Float, &[4, 6]).unwrap(), Tensor::with_sizes(DType::Float, &[4]).unwrap());
    let (none, column) = (Tensor::new(DType::Float), a.select(1, 0).unwrap());
    let block = a.narrow(1, 1, 4).unwrap();
    let found = of(&[&none, &b, &column, &block, &a.select(1, 5).unwrap()]);
    assert!(found.stretches.is_empty() && found.shares.iter().all(Option::is_none), "{found:?}");
    let halves = [&a.narrow(0, 0, 2).unwrap(), &a.narrow(0, 2, 2).unwrap()];
    assert!(of(&halves).stretches.is_empty());
    assert!(of(&[]).shares.is_empty());
}

#[test]
fn ranges_overlap_where_an_address_is_in_both() {
    for (overlap, ranges) in [
        (false, &[][..]),
        (false, &[5..8, 3..5]),
        (true, &[5..8, 0..0, 3..6]),
        (true, &[3..5, 3..5]),
        (false, &[0..0, 0..0, 7..9]),
        (true, &[0..100, 5..6, 200..300]),
        (true, &[0..100, 0..0, 60..70, 0..0]),
    ] {
        assert_eq!(any_overlap(&mut ranges.to_vec()), overlap, "{ranges:?}");
    }
    let t = Tensor::with_sizes(DType::Short, &[4, 6]).unwrap();
    let all = t.storage().unwrap().addresses();
    assert_eq!((t.addresses(), all.len()), (all.clone(), 48));
    assert_eq!(t.select(1, 2).unwrap().addresses(), all.start + 4..all.start + 2 * (2 + 18 + 1));
    assert_eq!(Tensor::new(DType::Int).addresses(), 0..0);
    assert_eq!(t.storage().unwrap().view(3, 0).unwrap().addresses(), 0..0);
}

#[test]
fn what_meets_shares_no_more_than_it_covers() {
    let t = Tensor::range(DType::Int, 0.0, 99.0, 1.0).unwrap();
    let (a, b, c) = (t.narrow(0, 10, 10).unwrap(), t.narrow(0, 15, 10).unwrap(), t.narrow(0, 50, 2).unwrap());
    let found = of(&[&c, &b, &a, &c]);
    let sizes: Vec<_> = found.stretches.iter().map(|s| s.span.len() / 4).collect();
    assert_eq!(sizes, [2, 15]);
    let places: Vec<_> = found.shares.iter().flatten().map(|s| (s.stretch, s.offset)).collect();
    assert_eq!(places, [(0, 0), (1, 5), (1, 0), (0, 0)]);
}

#[test]
fn parts_of_a_storage_share_its_memory() {
    let whole = Storage::from_slice(&[1i64, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let parts = [(0, 5), (3, 5)].map(|(from, len)| Tensor::of_storage(&whole.view(from, len).unwrap()).unwrap());
    let found = of(&[&parts[0], &parts[1]]);
    assert_eq!((found.stretches.len(), found.stretches[0].span.len()), (1, 64));
    // Once its memory is another, the two have nothing in common.
    whole.resize(9).unwrap();
    assert!(of(&[&Tensor::of_storage(&whole).unwrap(), &parts[0]]).stretches.is_empty());
}

#[test]
fn the_same_view_twice_takes_what_it_shows() {
    let column = Tensor::with_sizes(DType::Double, &[1000, 1000]).unwrap().select(1, 3).unwrap();
    let found = of(&[&column, &column.clone()]);
    assert_eq!((found.stretches.len(), found.stretches[0].span.len()), (1, 8000));
    assert_eq!(found.shares[0], found.shares[1]);
}

#[test]
fn what_repeats_its_elements_shares_them_up_to_a_number() {
    let one = Tensor::from_slice(&[1u8]).unwrap();
    let of = |n| of(&[&one, &one.expand(&[n]).unwrap()]).stretches.len();
    assert_eq!((of(MOST_REPEATED), of(MOST_REPEATED + 1)), (1, 0));
}

#[test]
fn very_many_views_are_soon_sorted() {
    let t = Tensor::with_sizes(DType::Byte, &[2000, 2000]).unwrap();
    let columns: Vec<_> = (0..2000).map(|i| t.select(1, i).unwrap()).collect();
    assert!(Stretches::of(&columns).unwrap().stretches.len() <= 1);
    let same = vec![t; 60_000];
    assert_eq!(Stretches::of(&same).unwrap().stretches.len(), 1);
}

#[test]
fn a_view_past_its_storage_is_refused() {
    let t = Tensor::with_sizes(DType::Float, &[10]).unwrap();
    t.storage().unwrap().resize(5).unwrap();
    assert_eq!(Stretches::of(&[t]).unwrap_err().code(), crate::error::Code::State);
    let storage = Storage::new(DType::Float, 10).unwrap();
    for (offset, sizes, strides) in
        [(0, &[11][..], &[1][..]), (1, &[10], &[1]), (0, &[4], &[4]), (0, &[], &[]), (usize::MAX, &[1], &[1])]
    {
        assert!(Tensor::in_stretch(&storage, offset, sizes, strides).is_err(), "{offset} {sizes:?} {strides:?}");
    }
}

const PLACES: usize = 48;

fn views() -> impl Strategy<Value = Vec<(usize, Vec<usize>, Vec<isize>)>> {
    let view = (0..PLACES, prop::collection::vec(1usize..5, 1..4), prop::collection::vec(0isize..9, 4));
    let fits = |(offset, sizes, strides): &(usize, Vec<usize>, Vec<isize>)| {
        // One that is alone arrives packed, with an element for each that repeated one.
        let layout = Layout::new(*offset, sizes, Some(&strides[..sizes.len()]));
        layout.is_ok_and(|layout| layout.end() <= PLACES && !repeats(&layout))
    };
    prop::collection::vec(view.prop_filter("reaches too far", fits), 1..6)
}

proptest! {
    /// What is written to one of those that arrived shows in the others as it does in those that were sent.
    #[test]
    fn those_that_arrive_share_as_those_that_were_sent(views in views()) {
        let storage = Storage::new(DType::Short, PLACES).unwrap();
        (0..PLACES).for_each(|i| storage.put(i, i as i64).unwrap());
        let view = |(offset, sizes, strides): &(usize, Vec<usize>, Vec<isize>)| {
            Tensor::from_storage(&storage, *offset, sizes, Some(&strides[..sizes.len()])).unwrap()
        };
        let sent: Vec<_> = views.iter().map(view).collect();
        let got = arrived(&sent);
        let same = |what: &str| {
            for (a, b) in sent.iter().zip(&got) {
                prop_assert_eq!(a.sizes(), b.sizes());
                prop_assert_eq!(a.to_vec::<i16>().unwrap(), b.to_vec::<i16>().unwrap(), "{}", what);
            }
            Ok(())
        };
        same("at first")?;
        for i in 0..sent.len() {
            for t in [&sent[i], &got[i]] {
                let elements: Vec<_> = (0..t.numel() as i16).map(|n| 100 * (i as i16 + 1) + n).collect();
                let all = Tensor::from_slice(&elements).unwrap();
                t.copy_from(&Tensor::from_storage(all.storage().unwrap(), 0, t.sizes(), None).unwrap()).unwrap();
            }
            same("after a write")?;
        }
    }
}

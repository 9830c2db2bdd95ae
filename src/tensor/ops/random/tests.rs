#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

#[test]
fn the_words_are_those_of_the_reference_generator() {
    // The first outputs of MT19937 for its authors' default seed, and the 10,000th as the C++ standard gives it.
    let mut g = Generator::new(5489);
    assert_eq!([g.word(), g.word(), g.word()], [3499211612, 581869302, 3890346734]);
    let mut g = Generator::new(5489);
    assert_eq!((0..10_000).map(|_| g.word()).last(), Some(4123659995));
}

#[test]
fn uniform_numbers_are_those_of_torch_s_manual() {
    let mut g = Generator::new(123);
    let unit = Distribution::Uniform { from: 0.0, to: 1.0 };
    assert!((g.draw(unit) - 0.69646918727085).abs() < 1e-14);
    assert!((g.draw(unit) - 0.71295532141812).abs() < 1e-14);
}

#[test]
fn normal_numbers_come_in_pairs_of_cosine_and_sine() {
    let (mut g, mut u) = (Generator::new(7), Generator::new(7));
    let (turn, height) = (u.unit(), u.unit());
    let radius = (-2.0 * (1.0 - height).ln()).sqrt();
    let normal = Distribution::Normal { mean: 1.0, deviation: 2.0 };
    assert!((g.draw(normal) - (radius * (2.0 * PI * turn).cos() * 2.0 + 1.0)).abs() < 1e-14);
    assert!((g.draw(normal) - (radius * (2.0 * PI * turn).sin() * 2.0 + 1.0)).abs() < 1e-14);
}

#[test]
fn a_seed_repeats_everything() {
    for d in DType::ALL {
        let t = [Tensor::with_sizes(d, &[3, 5]).unwrap(), Tensor::with_sizes(d, &[3, 5]).unwrap()];
        for t in &t {
            let mut g = Generator::new(42);
            g.draw(Distribution::Normal { mean: 0.0, deviation: 1.0 });
            g.fill_range(t).unwrap();
            g.fill(t, Distribution::Normal { mean: 50.0, deviation: 10.0 }).unwrap();
        }
        assert_eq!(t[0].to_vec::<f64>().unwrap(), t[1].to_vec::<f64>().unwrap());
    }
}

#[test]
fn numbers_stay_in_their_range() {
    let mut g = Generator::new(1);
    for _ in 0..1000 {
        assert!((-3..=4).contains(&g.between(-3, 4)));
        assert!((0.0..1.0).contains(&g.unit()));
    }
    g.between(i64::MIN, i64::MAX);
    let t = Tensor::with_sizes(DType::Byte, &[1000]).unwrap();
    g.fill(&t, Distribution::Bernoulli { p: 0.5 }).unwrap();
    let ones = t.to_vec::<f64>().unwrap().iter().sum::<f64>();
    assert!((400.0..600.0).contains(&ones));
}

#[test]
fn strided_tensors_are_filled_in_row_major_order() {
    let t = Tensor::with_sizes(DType::Double, &[2, 3]).unwrap();
    let unit = Distribution::Uniform { from: 0.0, to: 1.0 };
    Generator::new(9).fill(&t.t().unwrap(), unit).unwrap();
    let u = Tensor::with_sizes(DType::Double, &[3, 2]).unwrap();
    Generator::new(9).fill(&u, unit).unwrap();
    assert_eq!(t.t().unwrap().to_vec::<f64>().unwrap(), u.to_vec::<f64>().unwrap());
}

#[test]
fn a_permutation_has_every_number_once() {
    let mut order = Generator::new(3).permutation(100).unwrap();
    assert_ne!(order, (1..=100).collect::<Vec<_>>());
    order.sort_unstable();
    assert_eq!(order, (1..=100).collect::<Vec<_>>());
    assert!(Generator::new(3).permutation(0).unwrap().is_empty());
}

/// Bounds of ranges: small, far off, at the ends of types, next to each other.
fn bounds() -> impl Strategy<Value = (f64, f64)> {
    let place = prop_oneof![
        Just(0.0),
        Just(1.0),
        Just(-1.0),
        Just(0.1),
        Just(2048.0),
        Just(2049.3),
        Just(65504.0),
        Just(16777216.0),
        Just(1e16),
        Just(-1e16),
        Just(1e300),
        Just(-1.7e308),
        Just(1.7e308),
        Just(5e-324),
        Just(-3e-8),
        -100.0f64..100.0,
    ];
    let width =
        prop_oneof![Just(1.0), Just(2.0), Just(0.3), Just(1e-9), Just(1e6), Just(1e300), Just(0.0), 0.0f64..10.0];
    (place.clone(), width, place, 0u8..4).prop_map(|(at, width, other, kind)| match kind {
        0 => (at, other),
        1 => (at, at - width),
        _ => (at, at + width),
    })
}

/// A generator whose next words are all ones, which give the largest number below 1, or all zeros.
fn extreme(word: u32) -> Generator {
    let mut g = Generator::new(1);
    // Words are handed out as tempered: the bits that temper to `word` are found by undoing it.
    let mut y = word;
    y ^= y >> 18;
    y ^= (y << 15) & 0xefc6_0000;
    let mut x = y;
    (0..5).for_each(|_| x = y ^ ((x << 7) & 0x9d2c_5680));
    let mut z = x;
    (0..3).for_each(|_| z = x ^ (z >> 11));
    g.words = [z; N];
    g.next = 0;
    g
}

#[test]
fn extreme_generators_give_the_words_they_promise() {
    for word in [0, 1, u32::MAX, 0x8000_0000, 0x1234_5678] {
        assert_eq!(extreme(word).word(), word);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn uniform_numbers_never_reach_their_excluded_end(
        (from, to) in bounds(), d in 0..DType::ALL.len(), seed in any::<u32>(),
    ) {
        if from == to || !from.is_finite() || !to.is_finite() {
            return Ok(());
        }
        let dtype = DType::ALL[d];
        let end = nearest(dtype, to);
        // As an element the end is excluded, too, where the type tells the ends apart.
        let apart = nearest(dtype, from) != end;
        for mut g in [Generator::new(u64::from(seed)), extreme(u32::MAX), extreme(0), extreme(seed | 0xffff_0000)] {
            for _ in 0..40 {
                let v = nearest(dtype, Uniform::new(dtype, from, to).at(g.unit()));
                let inside = if from < to { v < to } else { v > to };
                prop_assert!(inside && !(apart && v == end), "{dtype}: {v} of {from} to {to}");
                // Rounded to the type, and no further away than that.
                let least = nearest(dtype, from);
                let after = if from < to {
                    v >= least.min(before(dtype, to))
                } else {
                    v <= least.max(-before(dtype, -to))
                };
                prop_assert!(after, "{dtype}: {v} of {from} to {to}");
            }
        }
        if dtype.is_float() {
            let t = Tensor::with_sizes(dtype, &[50]).unwrap();
            extreme(u32::MAX).fill(&t, Distribution::Uniform { from, to }).unwrap();
            let inside = |v| if from < to { v < to } else { v > to };
            prop_assert!(t.to_vec::<f64>().unwrap().into_iter().all(inside));
        }
    }

    #[test]
    fn what_is_drawn_is_a_number(seed in any::<u32>(), p in 1e-300f64..1.0) {
        for mut g in [Generator::new(u64::from(seed)), extreme(u32::MAX), extreme(0), extreme(seed)] {
            for _ in 0..10 {
                let normal = g.draw(Distribution::Normal { mean: 0.0, deviation: 1.0 });
                prop_assert!(normal.abs() < 7.0);
                let spread = g.draw(Distribution::LogNormal { mean: 1.0, deviation: 2.0 });
                prop_assert!(spread.is_finite() && spread > 0.0);
                let waiting = g.draw(Distribution::Exponential { rate: 1.0 });
                prop_assert!((0.0..23.0).contains(&waiting));
                let wide = g.draw(Distribution::Cauchy { median: 0.0, width: 1.0 });
                prop_assert!(wide.is_finite());
                let tries = g.draw(Distribution::Geometric { p });
                prop_assert!(tries.is_finite() && tries >= 1.0 && tries.fract() == 0.0);
                prop_assert_eq!(g.draw(Distribution::Bernoulli { p: 0.0 }), 0.0);
                prop_assert_eq!(g.draw(Distribution::Bernoulli { p: 1.0 }), 1.0);
            }
        }
    }

    #[test]
    fn integers_stay_in_their_range(
        a in any::<i64>(), b in any::<i64>(), small in -3000i64..3000, d in 0..DType::ALL.len(),
    ) {
        let dtype = DType::ALL[d];
        let narrow = (small, small + b.rem_euclid(5000));
        for (from, to) in [(a.min(b), a.max(b)), narrow, (i64::MIN, i64::MAX), (a, a)] {
            for mut g in [Generator::new(a as u64), extreme(u32::MAX), extreme(0)] {
                prop_assert!((from..=to).contains(&g.between(from, to)));
                if dtype.is_float() {
                    let t = Tensor::with_sizes(dtype, &[20]).unwrap();
                    g.fill(&t, Distribution::Between { from, to }).unwrap();
                    for v in t.to_vec::<f64>().unwrap() {
                        // A range without an element of the type gives one beside it.
                        let none = floor(dtype, integer_floor(i128::from(to))) < -integer_floor(-i128::from(from));
                        let inside = (i128::from(from)..=i128::from(to)).contains(&(v as i128));
                        prop_assert!(none || inside, "{dtype}: {v} of {from} to {to}");
                    }
                }
            }
        }
    }
}

#[test]
fn chances_of_tensors_are_checked_and_kept() {
    let t = Tensor::with_sizes(DType::Byte, &[2]).unwrap();
    extreme(0).fill_bernoulli(&t, &Tensor::from_slice(&[0.0f64, 1.0]).unwrap()).unwrap();
    assert_eq!(t.to_vec::<u8>().unwrap(), [0, 1]);
    extreme(u32::MAX).fill_bernoulli(&t, &Tensor::from_slice(&[0.0f32, 1.0]).unwrap()).unwrap();
    assert_eq!(t.to_vec::<u8>().unwrap(), [0, 1]);
    for odd in [-0.1, 1.5, f64::NAN] {
        assert!(Generator::new(1).fill_bernoulli(&t, &Tensor::from_slice(&[0.5, odd]).unwrap()).is_err());
    }
}

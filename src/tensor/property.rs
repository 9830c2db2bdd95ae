//! Everything computed, against a naive computation of the same, over random shapes, strides and types.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Binary, Compare, DType, Scalar, Storage, Tensor, Unary};

/// A view of some storage, made by random steps from a plain tensor of small integers.
fn views() -> impl Strategy<Value = Tensor> {
    let dtype = (0..DType::ALL.len()).prop_map(|i| DType::ALL[i]);
    let sizes = prop_oneof![
        4 => prop::collection::vec(1usize..6, 1..5),
        1 => prop::collection::vec(prop_oneof![1usize..4, 60usize..140], 1..3),
    ];
    let steps = prop::collection::vec((0u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..5);
    (dtype, sizes, steps, any::<u64>()).prop_map(|(dtype, sizes, steps, seed)| {
        let mut t = Tensor::with_sizes(dtype, &sizes).unwrap();
        for i in 0..t.numel() {
            let v =
                (seed ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 60;
            t.storage().unwrap().put(i, v as i64).unwrap();
        }
        for (kind, a, b) in steps {
            let d = a.index(t.ndim());
            t = match kind {
                0 => t.transpose(d, b.index(t.ndim())).unwrap(),
                1 => {
                    let start = b.index(t.sizes()[d]);
                    t.narrow(d, start, 1 + a.index(t.sizes()[d] - start)).unwrap()
                }
                2 if t.ndim() > 1 => t.select(d, b.index(t.sizes()[d])).unwrap(),
                3 if t.numel() < 500 => {
                    let mut sizes = t.sizes().to_vec();
                    let one = sizes.iter().position(|&n| n == 1);
                    one.into_iter().for_each(|d| sizes[d] = 1 + b.index(4));
                    t.expand(&sizes).unwrap()
                }
                _ => t,
            };
        }
        t
    })
}

/// The positions of all elements in row-major order.
fn positions(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![vec![]], |all, &n| {
        all.iter().flat_map(|p| (0..n).map(move |i| p.iter().copied().chain([i]).collect())).collect()
    })
}

/// All elements in row-major order, read one by one.
fn values(t: &Tensor) -> Vec<f64> {
    positions(t.sizes()).iter().map(|p| t.get(p).unwrap().to_f64()).collect()
}

/// What a tensor of `dtype` holds when `v` is put in.
fn as_element(dtype: DType, v: f64) -> f64 {
    let s = Storage::new(dtype, 1).unwrap();
    s.put(0, v).unwrap();
    s.get(0).unwrap().to_f64()
}

/// The lines along `dim`, in row-major order of what is left.
fn each_line(t: &Tensor, dim: usize) -> Vec<Vec<f64>> {
    let mut rest = t.sizes().to_vec();
    rest[dim] = 1;
    let line = |p: &Vec<usize>| {
        let mut p = p.clone();
        (0..t.sizes()[dim])
            .map(|k| {
                p[dim] = k;
                t.get(&p).unwrap().to_f64()
            })
            .collect()
    };
    positions(&rest).iter().map(line).collect()
}

fn close(a: f64, b: f64, dtype: DType) -> bool {
    let precision = match dtype {
        DType::BFloat16 => 1e-2,
        DType::Half => 2e-3,
        _ => 1e-5,
    };
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= precision * (1.0 + a.abs().max(b.abs()))
}

/// Sums and the like of integers wrap; comparing them is for values that fit.
fn fits(dtype: DType, v: f64) -> bool {
    as_element(dtype, v) == v.trunc() || dtype.is_float()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn copies_keep_values_and_order(t in views(), to in 0..DType::ALL.len()) {
        let before = values(&t);
        prop_assert_eq!(&values(&t.clone_data().unwrap()), &before);
        prop_assert_eq!(&values(&t.contiguous().unwrap()), &before);
        prop_assert_eq!(&t.to_vec::<f64>().unwrap(), &before);
        prop_assert_eq!(&values(&t.to_dtype(DType::ALL[to]).unwrap()), &before);
        let contiguous = Tensor::with_sizes(t.dtype(), &[t.numel()]).unwrap();
        contiguous.copy_from(&t).unwrap();
        prop_assert_eq!(&values(&contiguous), &before);
        prop_assert_eq!(&values(&t.reshape(&[-1]).unwrap()), &before);
        let back = t.clone_data().unwrap();
        back.zero().unwrap();
        back.copy_from(&contiguous).unwrap();
        prop_assert_eq!(&values(&back), &before);
    }

    #[test]
    fn contiguous_means_that_elements_follow_each_other(t in views()) {
        let places: Vec<usize> = positions(t.sizes()).iter()
            .map(|p| t.offset() + p.iter().zip(t.strides()).map(|(&i, &s)| i * s as usize).sum::<usize>()).collect();
        prop_assert_eq!(t.is_contiguous(), places.windows(2).all(|w| w[1] == w[0] + 1));
        prop_assert_eq!(t.layout().end(), places.iter().max().unwrap() + 1);
        prop_assert_eq!(t.bytes().is_some(), t.is_contiguous());
    }

    #[test]
    fn writing_to_a_view_touches_its_elements_and_no_others(t in views(), v in 20i64..30) {
        let all = Tensor::of_storage(t.storage().unwrap()).unwrap();
        let mut expected = values(&all);
        for p in positions(t.sizes()) {
            let at = t.offset() + p.iter().zip(t.strides()).map(|(&i, &s)| i * s as usize).sum::<usize>();
            expected[at] = v as f64;
        }
        t.fill(v).unwrap();
        prop_assert_eq!(values(&all), expected);
    }

    #[test]
    fn binary_operations_agree_with_scalar_arithmetic(a in views(), op in 0..Binary::ALL.len(), seed in 1i64..5) {
        let op = Binary::ALL[op];
        // A second operand of another layout, without zeros.
        let b = Tensor::with_sizes(a.dtype(), &[a.numel()]).unwrap();
        for i in 0..a.numel() {
            b.put(&[i], (i as i64 * seed) % 4 + 1).unwrap();
        }
        let f = |x: f64, y: f64| match op {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::Pow => x.powf(y),
            Binary::Fmod => x % y,
            Binary::Remainder => x - y * (x / y).floor(),
            Binary::Max => x.max(y),
            Binary::Min => x.min(y),
        };
        let check = |r: &Tensor, expected: Vec<f64>| -> Result<(), TestCaseError> {
            for (got, want) in values(r).into_iter().zip(expected) {
                if fits(r.dtype(), want) {
                    prop_assert!(close(got, as_element(r.dtype(), want), r.dtype()), "{op:?}: {got} for {want}");
                }
            }
            Ok(())
        };
        let (x, y) = (values(&a), values(&b));
        let r = Tensor::with_sizes(a.dtype(), a.sizes()).unwrap();
        r.binary(op, &a, &b).unwrap();
        check(&r, x.iter().zip(&y).map(|(&x, &y)| f(x, y)).collect())?;
        r.copy_from(&a).unwrap();
        r.binary(op, &r, &b).unwrap();
        check(&r, x.iter().zip(&y).map(|(&x, &y)| f(x, y)).collect())?;
        r.binary_scalar(op, &a, seed).unwrap();
        check(&r, x.iter().map(|&x| f(x, seed as f64)).collect())?;
        r.scalar_binary(op, seed, &b).unwrap();
        check(&r, y.iter().map(|&y| f(seed as f64, y)).collect())?;
        r.binary(op, &r, &r.contiguous().unwrap()).ok();
        r.add_scaled(&a, seed, &b).unwrap();
        check(&r, if op == Binary::Add { x.iter().zip(&y).map(|(&x, &y)| x + seed as f64 * y).collect() } else { vec![] })?;
    }

    #[test]
    fn an_operation_in_place_reads_before_it_writes(t in views()) {
        prop_assume!(t.strides().iter().zip(t.sizes()).all(|(&s, &n)| s > 0 || n == 1));
        let before = values(&t);
        t.binary(Binary::Add, &t, &t).unwrap();
        prop_assert_eq!(values(&t), before.iter().map(|v| v + v).collect::<Vec<_>>());
        t.binary(Binary::Sub, &t, &t).unwrap();
        prop_assert!(values(&t).iter().all(|&v| v == 0.0));
    }

    #[test]
    fn comparisons_agree_with_scalar_comparisons(a in views(), s in 0i64..16, op in 0..Compare::ALL.len()) {
        let op = Compare::ALL[op];
        let b = Tensor::with_sizes(a.dtype(), &[a.numel()]).unwrap();
        b.fill(s).unwrap();
        let f = |x: f64| f64::from(u8::from(match op {
            Compare::Eq => x == s as f64,
            Compare::Ne => x != s as f64,
            Compare::Lt => x < s as f64,
            Compare::Le => x <= s as f64,
            Compare::Gt => x > s as f64,
            Compare::Ge => x >= s as f64,
        }));
        let expected: Vec<f64> = values(&a).into_iter().map(f).collect();
        for dtype in [DType::Byte, a.dtype()] {
            let r = Tensor::with_sizes(dtype, a.sizes()).unwrap();
            r.compare(op, &a, &b).unwrap();
            prop_assert_eq!(&values(&r), &expected);
            r.compare_scalar(op, &a, s).unwrap();
            prop_assert_eq!(&values(&r), &expected);
            prop_assert_eq!(r.all().unwrap(), expected.iter().all(|&v| v == 1.0));
            prop_assert_eq!(r.any().unwrap(), expected.contains(&1.0));
        }
    }

    #[test]
    fn functions_of_one_element_agree_with_rusts(a in views(), op in 0..Unary::ALL.len()) {
        let op = Unary::ALL[op];
        let f: fn(f64) -> f64 = match op {
            Unary::Abs => f64::abs,
            Unary::Neg => |x| -x,
            Unary::Sqrt => f64::sqrt,
            Unary::Exp => f64::exp,
            Unary::Log => f64::ln,
            Unary::Tanh => f64::tanh,
            Unary::Floor => f64::floor,
            Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
            _ => return Ok(()),
        };
        let r = Tensor::with_sizes(a.dtype(), a.sizes()).unwrap();
        r.unary(op, &a).unwrap();
        for (got, x) in values(&r).into_iter().zip(values(&a)) {
            if fits(a.dtype(), f(x)) {
                prop_assert!(close(got, as_element(a.dtype(), f(x)), a.dtype()), "{op:?}({x}) gave {got}");
            }
        }
    }

    #[test]
    fn whole_reductions_agree_with_naive_ones(t in views()) {
        let v = values(&t);
        let n = v.len() as f64;
        let mean = v.iter().sum::<f64>() / n;
        prop_assert_eq!(t.sum().unwrap().to_f64(), v.iter().sum::<f64>());
        prop_assert_eq!(t.max().unwrap().to_f64(), v.iter().copied().fold(f64::MIN, f64::max));
        prop_assert_eq!(t.min().unwrap().to_f64(), v.iter().copied().fold(f64::MAX, f64::min));
        prop_assert!((t.mean().unwrap() - mean).abs() < 1e-9);
        prop_assert!((t.norm(2.0).unwrap() - v.iter().map(|v| v * v).sum::<f64>().sqrt()).abs() < 1e-9);
        prop_assert!((t.norm(1.0).unwrap() - v.iter().sum::<f64>()).abs() < 1e-9);
        prop_assert!((t.norm(3.0).unwrap() - v.iter().map(|v| v * v * v).sum::<f64>().cbrt()).abs() < 1e-6);
        prop_assert_eq!(t.norm(0.0).unwrap(), v.iter().filter(|&&v| v != 0.0).count() as f64);
        prop_assert_eq!(t.norm(f64::INFINITY).unwrap(), t.max().unwrap().to_f64());
        let squares = v.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        prop_assert!((t.var(true).unwrap() - squares / n).abs() < 1e-9);
        prop_assert!(t.var(false).unwrap().is_nan() || (t.var(false).unwrap() - squares / (n - 1.0)).abs() < 1e-9);
        let prod = v.iter().product::<f64>();
        prop_assert!(prod.abs() > 1e15 || t.prod().unwrap().to_f64() == prod);
    }

    #[test]
    fn reductions_along_a_dimension_agree_with_naive_ones(t in views(), d in any::<prop::sample::Index>()) {
        let d = d.index(t.ndim());
        let lines = each_line(&t, d);
        let close_to = |r: Tensor, f: &dyn Fn(&[f64]) -> f64| -> Result<(), TestCaseError> {
            prop_assert_eq!(r.sizes()[d], 1);
            for (got, line) in values(&r).into_iter().zip(&lines) {
                let want = f(line);
                if fits(t.dtype(), want) {
                    prop_assert!(close(got, as_element(t.dtype(), want), t.dtype()), "{got} for {want}");
                }
            }
            Ok(())
        };
        let sum = |l: &[f64]| l.iter().sum::<f64>();
        close_to(t.sum_dim(d).unwrap(), &sum)?;
        close_to(t.prod_dim(d).unwrap(), &|l| l.iter().product())?;
        close_to(t.norm_dim(1.0, d).unwrap(), &sum)?;
        if t.dtype().is_float() {
            close_to(t.mean_dim(d).unwrap(), &|l| sum(l) / l.len() as f64)?;
            let var = |l: &[f64]| {
                let mean = sum(l) / l.len() as f64;
                l.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / l.len() as f64
            };
            close_to(t.var_dim(d, true).unwrap(), &var)?;
            close_to(t.std_dim(d, true).unwrap(), &|l| var(l).sqrt())?;
        }
        for max in [true, false] {
            let (v, i) = if max { t.max_dim(d) } else { t.min_dim(d) }.unwrap();
            for ((v, i), line) in values(&v).into_iter().zip(values(&i)).zip(&lines) {
                let best = line.iter().copied().reduce(|a, b| if max { a.max(b) } else { a.min(b) }).unwrap();
                let first = line.iter().position(|&x| x == best).unwrap();
                prop_assert_eq!((v, i), (best, first as f64 + 1.0));
            }
        }
        let running = t.cumsum(d).unwrap();
        for (got, line) in each_line(&running, d).iter().zip(&lines) {
            let mut acc = 0.0;
            for (&got, &v) in got.iter().zip(line) {
                acc += v;
                prop_assert!(!fits(t.dtype(), acc) || close(got, as_element(t.dtype(), acc), t.dtype()));
            }
        }
    }

    #[test]
    fn sorting_agrees_with_the_standard_librarys(t in views(), d in any::<prop::sample::Index>(), down in any::<bool>()) {
        let d = d.index(t.ndim());
        let (v, i) = t.sort(d, down).unwrap();
        for ((v, i), line) in each_line(&v, d).into_iter().zip(each_line(&i, d)).zip(each_line(&t, d)) {
            let mut order: Vec<usize> = (0..line.len()).collect();
            order.sort_by(|&a, &b| if down { line[b].total_cmp(&line[a]) } else { line[a].total_cmp(&line[b]) });
            prop_assert_eq!(v, order.iter().map(|&k| line[k]).collect::<Vec<_>>());
            prop_assert_eq!(i, order.iter().map(|&k| k as f64 + 1.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn picked_elements_are_those_of_plain_loops(t in views(), d in any::<prop::sample::Index>(), seed in any::<u64>()) {
        prop_assume!(t.numel() <= 1000);
        let d = d.index(t.ndim());
        let n = t.sizes()[d] as u64;
        let picks: Vec<i64> = (0..1 + seed % 9).map(|i| (seed.rotate_left(7 * i as u32) % n) as i64 + 1).collect();
        let index = Tensor::from_slice(&picks).unwrap();
        let at = |p: &[usize], i: usize| {
            let mut p = p.to_vec();
            p[d] = i;
            p
        };
        let element = |t: &Tensor, p: &[usize]| t.get(p).unwrap().to_f64();
        // Slices by index, out of any view and into one whose dimensions lie the other way round in memory.
        let picked = t.index_select(d, &index).unwrap();
        for p in positions(picked.sizes()) {
            prop_assert_eq!(element(&picked, &p), element(&t, &at(&p, picks[p[d]] as usize - 1)));
        }
        let turned = |t: &Tensor| {
            let last = t.ndim() - 1;
            t.transpose(0, last).unwrap().clone_data().unwrap().transpose(0, last).unwrap()
        };
        let (into, filled) = (turned(&t), turned(&t));
        into.fill(0).unwrap();
        into.index_copy(d, &index, &picked).unwrap();
        filled.index_fill(d, &index, 77).unwrap();
        for p in positions(t.sizes()) {
            let named = picks.contains(&(p[d] as i64 + 1));
            prop_assert_eq!(element(&into, &p), if named { element(&t, &p) } else { 0.0 });
            prop_assert_eq!(element(&filled, &p), if named { 77.0 } else { element(&t, &p) });
        }
        // Elements by index: of several for one place the last stays.
        let mut sizes = t.sizes().to_vec();
        sizes[d] = picks.len();
        let indices = Tensor::with_sizes(DType::Long, &sizes).unwrap();
        for (k, p) in positions(&sizes).iter().enumerate() {
            indices.put(p, ((seed ^ k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as i64 % n as i64 + 1).unwrap();
        }
        let (indices, gathered) = (turned(&indices), t.gather(d, &indices).unwrap());
        let scattered = turned(&t);
        scattered.scatter(d, &indices, &turned(&gathered)).unwrap();
        let marked = turned(&t);
        marked.scatter_fill(d, &indices, 77).unwrap();
        let mut want: Vec<f64> = values(&t);
        let all = positions(t.sizes());
        for p in positions(&sizes) {
            let i = element(&indices, &p) as usize - 1;
            prop_assert_eq!(element(&gathered, &p), element(&t, &at(&p, i)));
            want[all.iter().position(|q| *q == at(&p, i)).unwrap()] = 77.0;
        }
        prop_assert_eq!(values(&scattered), values(&t));
        prop_assert_eq!(values(&marked), want);
        // Elements by a mask of another shape, in row-major order.
        let bytes: Vec<u8> = (0..t.numel()).map(|k| (seed.rotate_right(k as u32) & 3) as u8).collect();
        let mask = Tensor::from_slice(&bytes).unwrap();
        let before = values(&t);
        let chosen: Vec<f64> = before.iter().zip(&bytes).filter(|(_, m)| **m != 0).map(|(v, _)| *v).collect();
        let selected = t.masked_select(&mask).unwrap();
        prop_assert_eq!(selected.to_vec::<f64>().unwrap(), chosen);
        let (masked, copied) = (turned(&t), turned(&t));
        masked.masked_fill(&mask, 77).unwrap();
        copied.fill(0).unwrap();
        copied.masked_copy(&mask, &selected).unwrap();
        let either = |chosen: f64| before.iter().zip(&bytes).map(move |(v, m)| if *m != 0 { chosen } else { *v });
        prop_assert_eq!(values(&masked), either(77.0).collect::<Vec<_>>());
        let zeros = before.iter().zip(&bytes).map(|(v, m)| if *m != 0 { *v } else { 0.0 });
        prop_assert_eq!(values(&copied), zeros.collect::<Vec<_>>());
        let rows = t.nonzero().unwrap();
        let nonzero: Vec<_> = positions(t.sizes()).into_iter().filter(|p| element(&t, p) != 0.0).flatten().collect();
        let found: Vec<usize> = rows.to_vec::<i64>().unwrap().into_iter().map(|i| i as usize - 1).collect();
        prop_assert_eq!(found, nonzero);
    }

    #[test]
    fn products_with_vectors_are_plain_sums(t in views(), seed in 1i64..5) {
        let v = values(&t);
        let other = Tensor::with_sizes(t.dtype(), &[t.numel()]).unwrap();
        for i in 0..t.numel() {
            other.put(&[i], (i as i64 * seed) % 3).unwrap();
        }
        let sum: f64 = v.iter().zip(values(&other)).map(|(x, y)| x * y).sum();
        if fits(t.dtype(), sum) {
            prop_assert!(close(t.dot(&other).unwrap().to_f64(), as_element(DType::Double, sum), t.dtype()));
        }
        if t.ndim() == 2 {
            let x = other.narrow(0, 0, t.sizes()[1]).unwrap();
            let y = Tensor::with_sizes(t.dtype(), &[t.sizes()[0]]).unwrap();
            y.addmv(Scalar::Int(0), &y, Scalar::Int(1), &t, &x).unwrap();
            for (got, line) in values(&y).into_iter().zip(each_line(&t, 1)) {
                let want: f64 = line.iter().zip(values(&x)).map(|(a, b)| a * b).sum();
                prop_assert!(!fits(t.dtype(), want) || close(got, as_element(t.dtype(), want), t.dtype()));
            }
        }
    }

    #[test]
    fn long_lines_are_sorted_like_short_ones(n in 2049usize..5000, kind in 0..DType::ALL.len(), seed in any::<u64>(), down in any::<bool>()) {
        let t = Tensor::with_sizes(DType::ALL[kind], &[n]).unwrap();
        for i in 0..n {
            let v = (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            t.put(&[i], if i % 500 == 7 { Scalar::Float(f64::NAN) } else { Scalar::Float(v as f64 / 16.0 - 4e5) }).unwrap();
        }
        let v = values(&t);
        let mut order: Vec<usize> = (0..n).collect();
        // NaN counts as the largest.
        let key = |i: usize| if v[i].is_nan() { (1, 0.0) } else { (0, v[i]) };
        order.sort_by(|&a, &b| if down { key(b).partial_cmp(&key(a)) } else { key(a).partial_cmp(&key(b)) }.unwrap());
        let (sorted, places) = t.sort(0, down).unwrap();
        prop_assert_eq!(places.to_vec::<i64>().unwrap(), order.iter().map(|&i| i as i64 + 1).collect::<Vec<_>>());
        for (got, &i) in values(&sorted).into_iter().zip(&order) {
            prop_assert!(got == v[i] || (got.is_nan() && v[i].is_nan()));
        }
    }

    #[test]
    fn no_sizes_strides_or_offsets_reach_outside(
        offset in prop_oneof![0usize..9, any::<usize>()],
        sizes in prop::collection::vec(prop_oneof![0usize..4, any::<usize>(), Just(1usize << 62)], 0..4),
        strides in prop::collection::vec(prop_oneof![-1isize..4, any::<isize>(), Just(1isize << 62)], 0..4),
    ) {
        // Storage that cannot grow, so that a wild view is never answered with wild amounts of memory.
        let s = Storage::new(DType::Byte, 64).unwrap();
        if let Ok(layout) = super::Layout::new(offset, &sizes, Some(&strides)) && layout.end() <= 64 && layout.numel() < 4096 {
            let t = Tensor::from_storage(&s, offset, &sizes, Some(&strides)).unwrap();
            t.fill(1).unwrap();
            prop_assert!(t.numel() == 0 || t.sum().unwrap() == Scalar::Int(t.numel() as i64));
        }
        prop_assert_eq!(s.len(), 64);
    }
}

//! Random numbers as Torch7 draws them: the same seed gives the same numbers, in the same order.
//!
//! A Mersenne twister (MT19937) of 32-bit words; uniform numbers take one word each, normal ones come in pairs by Box
//! and Muller's method, the second of a pair being kept for the next call.
//!
//! Stands on: copy, dtype, elements, number, view.

use std::f64::consts::PI;
use std::fmt;

use super::dtype::{DType, Element, from_scalar};
use super::elements::each;
use super::number::Scalar;
use super::view::Tensor;
use crate::dispatch;
use crate::err;
use crate::error::Result;

/// Words of state.
const N: usize = 624;
/// The distance of the word that is mixed in.
const M: usize = 397;

/// A generator of random numbers.
#[derive(Clone)]
pub struct Generator {
    words: [u32; N],
    /// The word to hand out next; N when new ones are to be made first.
    next: usize,
    seed: u64,
    /// The second normal number of a pair: angle in turns, radius.
    kept: Option<(f64, f64)>,
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generator(seed {})", self.seed)
    }
}

impl Generator {
    /// A generator with this seed (its lower 32 bits count).
    pub fn new(seed: u64) -> Generator {
        let mut words = [0u32; N];
        words[0] = seed as u32;
        for i in 1..N {
            let before = words[i - 1];
            words[i] = 1812433253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Generator { words, next: N, seed, kept: None }
    }

    /// A generator with a seed from the system's source of random bytes.
    pub fn from_system() -> Generator {
        let mut bytes = [0u8; 4];
        // Without that source (no such system is known) the address of a local differs from run to run.
        let seed = match getrandom::fill(&mut bytes) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => (&raw const bytes) as usize as u32,
        };
        Generator::new(u64::from(seed))
    }

    /// The seed it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let mixed = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N] & 0x7fff_ffff);
                let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[i] = self.words[(i + M) % N] ^ (mixed >> 1) ^ twist;
            }
            self.next = 0;
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number of [0, 1).
    fn unit(&mut self) -> f64 {
        f64::from(self.word()) / 4294967296.0
    }

    /// An integer of [a, b]. `a` must not be past `b`; of a range wider than 2³² only that many values come.
    pub fn between(&mut self, a: i64, b: i64) -> i64 {
        let range = (b as u64).wrapping_sub(a as u64).wrapping_add(1);
        let word = u64::from(self.word());
        a.wrapping_add((if range == 0 { word } else { word % range }) as i64)
    }

    /// A number of `distribution`.
    pub fn draw(&mut self, distribution: Distribution) -> f64 {
        match distribution {
            Distribution::Uniform { from, to } => self.unit() * (to - from) + from,
            Distribution::Normal { mean, deviation } => self.normal() * deviation + mean,
            Distribution::LogNormal { mean, deviation } => (self.normal() * deviation + mean).exp(),
            Distribution::Exponential { rate } => -(1.0 - self.unit()).ln() / rate,
            Distribution::Cauchy { median, width } => median + width * (PI * (self.unit() - 0.5)).tan(),
            Distribution::Geometric { p } => ((1.0 - self.unit()).ln() / p.ln()).floor() + 1.0,
            Distribution::Bernoulli { p } => f64::from(u8::from(self.unit() <= p)),
            Distribution::Between { from, to } => self.between(from, to) as f64,
        }
    }

    fn normal(&mut self) -> f64 {
        match self.kept.take() {
            Some((turn, radius)) => radius * (2.0 * PI * turn).sin(),
            None => {
                let turn = self.unit();
                let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
                self.kept = Some((turn, radius));
                radius * (2.0 * PI * turn).cos()
            }
        }
    }

    /// Fills `tensor` with numbers of `distribution`, in row-major order.
    pub fn fill(&mut self, tensor: &Tensor, distribution: Distribution) -> Result<()> {
        self.fill_with(tensor, |g| match distribution {
            Distribution::Between { from, to } => Scalar::Int(g.between(from, to)),
            _ => Scalar::Float(g.draw(distribution)),
        })
    }

    /// Fills `tensor` with integers from 0 up to what its type counts exactly (at most 32 bits of them).
    pub fn fill_range(&mut self, tensor: &Tensor) -> Result<()> {
        let range = match tensor.dtype() {
            DType::Byte => 1u64 << 8,
            DType::Char => 1 << 7,
            DType::Short => 1 << 15,
            DType::Int => 1 << 31,
            DType::Long => 1 << 63,
            DType::Float => (1 << 24) + 1,
            DType::Double => (1 << 53) + 1,
            DType::Half => (1 << 11) + 1,
            DType::BFloat16 => (1 << 8) + 1,
        };
        self.fill_with(tensor, |g| Scalar::Int((u64::from(g.word()) % range) as i64))
    }

    /// Fills `tensor` with ones where a uniform number is at most `p`'s element, else zeros.
    pub fn fill_bernoulli(&mut self, tensor: &Tensor, p: &Tensor) -> Result<()> {
        if tensor.numel() != p.numel() {
            return Err(err!(
                Argument,
                "expected as many probabilities as elements, got {} for {}",
                p.numel(),
                tensor.numel()
            ));
        }
        let mut p = p.to_vec::<f64>()?.into_iter();
        self.fill_with(tensor, |g| Scalar::Int(i64::from(g.unit() <= p.next().unwrap_or(0.0))))
    }

    fn fill_with(&mut self, tensor: &Tensor, mut number: impl FnMut(&mut Generator) -> Scalar) -> Result<()> {
        dispatch!(tensor.dtype(), T => each::<T>(tensor, |_| T::store(from_scalar::<T>(number(self)))))
    }

    /// The numbers from 1 to `n` in a random order.
    pub fn permutation(&mut self, n: usize) -> Result<Vec<i64>> {
        let mut order: Vec<i64> = Vec::new();
        order.try_reserve_exact(n).map_err(|_| err!(Limit, "{n} numbers are past what memory can hold"))?;
        order.extend(1..=n as i64);
        for i in 0..n.saturating_sub(1) {
            let other = i + self.word() as usize % (n - i);
            order.swap(i, other);
        }
        Ok(order)
    }
}

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// [from, to), every number equally likely
    Uniform {
        /// the least number
        from: f64,
        /// what all numbers stay below
        to: f64,
    },
    /// the bell curve
    Normal {
        /// its middle
        mean: f64,
        /// its standard deviation
        deviation: f64,
    },
    /// e to the power of a normal number
    LogNormal {
        /// the normal number's mean
        mean: f64,
        /// the normal number's standard deviation
        deviation: f64,
    },
    /// waiting times
    Exponential {
        /// events a unit of time
        rate: f64,
    },
    /// without a mean
    Cauchy {
        /// its middle
        median: f64,
        /// half its width at half height
        width: f64,
    },
    /// 1, 2, 3, … with falling probability
    Geometric {
        /// the chance that it goes on
        p: f64,
    },
    /// 1 or 0
    Bernoulli {
        /// the chance of a 1
        p: f64,
    },
    /// the integers of [from, to]
    Between {
        /// the least
        from: i64,
        /// the largest
        to: i64,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        assert_eq!(g.draw(normal), radius * (2.0 * PI * turn).cos() * 2.0 + 1.0);
        assert_eq!(g.draw(normal), radius * (2.0 * PI * turn).sin() * 2.0 + 1.0);
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
}

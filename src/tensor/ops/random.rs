//! Random numbers as Torch7 draws them: the same seed gives the same numbers, in the same order.
//!
//! A Mersenne twister (MT19937) of 32-bit words; uniform numbers take one word each, normal ones come in pairs by Box
//! and Muller's method, the second of a pair being kept for the next call.

mod normal;

use std::f64::consts::PI;
use std::fmt;

use half::{bf16, f16};

use crate::dispatch;
use crate::err;
use crate::error::Result;
use crate::tensor::data::dtype::{DType, Element, from_scalar};
use crate::tensor::data::elements::each;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::view::Tensor;

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
    /// The second normal number of a pair.
    kept: Option<f64>,
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

    /// Makes the next N words from the last.
    fn renew(&mut self) {
        let mixed = |upper: u32, lower: u32| {
            let mixed = (upper & 0x8000_0000) | (lower & 0x7fff_ffff);
            (mixed >> 1) ^ (mixed & 1).wrapping_neg() & 0x9908_b0df
        };
        // In three parts, without a division for each word's neighbours.
        let words = &mut self.words;
        for i in 0..N - M {
            words[i] = words[i + M] ^ mixed(words[i], words[i + 1]);
        }
        for i in N - M..N - 1 {
            words[i] = words[i + M - N] ^ mixed(words[i], words[i + 1]);
        }
        words[N - 1] = words[M - 1] ^ mixed(words[N - 1], words[0]);
        self.next = 0;
    }

    /// 32 random bits.
    #[inline]
    pub fn word(&mut self) -> u32 {
        if self.next == N {
            self.renew();
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
            Distribution::Uniform { from, to } => Uniform::new(DType::Double, from, to).at(self.unit()),
            Distribution::Normal { mean, deviation } => self.normal() * deviation + mean,
            Distribution::LogNormal { mean, deviation } => (self.normal() * deviation + mean).exp(),
            Distribution::Exponential { rate } => -(1.0 - self.unit()).ln() / rate,
            Distribution::Cauchy { median, width } => median + width * (PI * (self.unit() - 0.5)).tan(),
            Distribution::Geometric { p } => ((1.0 - self.unit()).ln() / p.ln()).floor() + 1.0,
            Distribution::Bernoulli { p } => f64::from(u8::from(self.unit() < p)),
            Distribution::Between { from, to } => self.between(from, to) as f64,
        }
    }

    fn normal(&mut self) -> f64 {
        let mut number = [0.0];
        self.normals(&mut number);
        number[0]
    }

    /// Fills `tensor` with numbers of `distribution`, in row-major order.
    pub fn fill(&mut self, tensor: &Tensor, distribution: Distribution) -> Result<()> {
        match distribution {
            Distribution::Uniform { from, to } => {
                let uniform = Uniform::new(tensor.dtype(), from, to);
                self.fill_with(tensor, |g| Scalar::Float(uniform.at(g.unit())))
            }
            Distribution::Between { from, to } if tensor.dtype().is_float() => {
                let dtype = tensor.dtype();
                let (least, most) = (-integer_floor(-i128::from(from)), integer_floor(i128::from(to)));
                // Rounding leads out of the range where neighbours are further apart than 1.
                let (low, high) = (-floor(dtype, -least), floor(dtype, most));
                self.fill_with(tensor, |g| {
                    let v = nearest(dtype, g.between(from, to) as f64);
                    Scalar::Float(if v > most {
                        high
                    } else if v < least && low <= most {
                        low
                    } else {
                        v
                    })
                })
            }
            Distribution::Normal { mean, deviation } => self.fill_normal(tensor, mean, deviation),
            Distribution::Between { from, to } => self.fill_with(tensor, |g| Scalar::Int(g.between(from, to))),
            _ => self.fill_with(tensor, |g| Scalar::Float(g.draw(distribution))),
        }
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

    /// Fills `tensor` with ones where a uniform number is below `p`'s element, else zeros.
    pub fn fill_bernoulli(&mut self, tensor: &Tensor, p: &Tensor) -> Result<()> {
        if tensor.numel() != p.numel() {
            return Err(err!(
                Argument,
                "expected as many probabilities as elements, got {} for {}",
                p.numel(),
                tensor.numel()
            ));
        }
        let p = p.to_vec::<f64>()?;
        if let Some(odd) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(err!(Argument, "expected chances from 0 to 1, got {odd} among them"));
        }
        let mut p = p.into_iter();
        self.fill_with(tensor, |g| Scalar::Int(i64::from(g.unit() < p.next().unwrap_or(0.0))))
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

/// Numbers of [from, to), or of (to, from] if `to` is the smaller, as elements of one type.
///
/// Rounding to the type, and in far-off ranges the sum itself, can lead to the excluded end or past it. Such a number
/// is the element before that end instead: what is drawn stays one word for each number.
#[derive(Clone, Copy, Debug)]
struct Uniform {
    dtype: DType,
    from: f64,
    to: f64,
    /// The range is turned round, so that it ascends.
    turned: bool,
    /// What all elements stay below: `to` as the type has it, if that is no larger.
    below: f64,
    /// The largest element below that.
    last: f64,
}

impl Uniform {
    fn new(dtype: DType, from: f64, to: f64) -> Uniform {
        let turned = from > to;
        let (from, to) = if turned { (-from, -to) } else { (from, to) };
        // A range between two neighbours of the type has no end of that type that could be left out.
        let end = nearest(dtype, to);
        let below = if nearest(dtype, from) < end { to.min(end) } else { to };
        Uniform { dtype, from, to, turned, below, last: before(dtype, below) }
    }

    /// The number for `unit` of [0, 1).
    fn at(self, unit: f64) -> f64 {
        let width = self.to - self.from;
        let v = if width.is_finite() {
            unit * width + self.from
        } else {
            // The two are so far apart that their distance has no number.
            self.from * (1.0 - unit) + self.to * unit
        };
        let v = if self.from < self.to && nearest(self.dtype, v) >= self.below { self.last } else { v };
        if self.turned { -v } else { v }
    }
}

/// The element of a type that stands for `v`, integers before they wrap.
fn nearest(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::Double => v,
        DType::Float => f64::from(v as f32),
        DType::Half => f64::from(f16::store(v as f32).load()),
        DType::BFloat16 => f64::from(bf16::store(v as f32).load()),
        _ => v.trunc(),
    }
}

/// The largest element of a type that is smaller than the finite `v`.
fn before(dtype: DType, v: f64) -> f64 {
    let nearest = nearest(dtype, v);
    match dtype {
        DType::Double => v.next_down(),
        // Past 2^53 a float's neighbours are further apart than integers.
        _ if !dtype.is_float() => (v.ceil() - 1.0).min(v.next_down()),
        _ if nearest < v => nearest,
        DType::Half => f64::from(f16::from_bits(one_down(f16::store(v as f32).to_bits())).load()),
        DType::BFloat16 => f64::from(bf16::from_bits(one_down(bf16::store(v as f32).to_bits())).load()),
        _ => f64::from((v as f32).next_down()),
    }
}

/// The bits of the next smaller of 16-bit floats: a sign and a magnitude.
fn one_down(bits: u16) -> u16 {
    match bits {
        0 | 0x8000 => 0x8001,
        0x8001.. => bits + 1,
        _ => bits - 1,
    }
}

/// The largest element of a type of floats that is no larger than `v`.
fn floor(dtype: DType, v: f64) -> f64 {
    if nearest(dtype, v) <= v { nearest(dtype, v) } else { before(dtype, v) }
}

/// The largest `f64` that is no larger than `n`.
fn integer_floor(n: i128) -> f64 {
    let v = n as f64;
    if v as i128 > n { v.next_down() } else { v }
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
mod tests;

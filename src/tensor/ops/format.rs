//! Tensors as text, the way Torch7 prints them: columns of equal width, a scale in front of numbers that are far from
//! 1, pages of columns where a line would be too long, and the type and sizes at the end.
//!
//! Imports its sibling `shape`.

use std::fmt::Write;

use crate::err;
use crate::error::Result;
use crate::sys::Text;
use crate::tensor::data::layout::describe;
use crate::tensor::data::number::Scalar;
use crate::tensor::data::storage::Storage;
use crate::tensor::data::view::Tensor;

/// Characters in a line.
const WIDTH: usize = 80;

/// How every number of a tensor is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    /// As integers.
    Integer,
    /// With four decimals, after division by this power of ten.
    Fixed { power: i32 },
    /// With four decimals and an exponent.
    Exponent,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Format {
    style: Style,
    width: usize,
}

/// The number of digits before the point: 1 for 0 and 1, 3 for 100, 0 for 0.5, −1 for 0.01.
fn digits(v: f64) -> i32 {
    if v == 0.0 { 1 } else { v.log10().floor() as i32 + 1 }
}

impl Format {
    /// The one format that suits all of `values`.
    fn of(values: &[Scalar]) -> Format {
        let finite = || values.iter().map(|v| v.to_f64().abs()).filter(|v| v.is_finite());
        let (least, most) = finite().fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
        let (low, high) = if least > most { (1, 1) } else { (digits(least), digits(most)) };
        let odd = finite().count() != values.len();
        let integers = values.iter().all(|v| match v {
            Scalar::Int(_) => true,
            Scalar::Float(v) => v.is_finite() && v.fract() == 0.0,
        });
        let format = if integers {
            if high > 9 {
                Format { style: Style::Exponent, width: 11 }
            } else {
                Format { style: Style::Integer, width: high as usize + 1 }
            }
        } else if high - low > 4 {
            let wide = high.abs() > 99 || low.abs() > 99;
            Format { style: Style::Exponent, width: if wide { 12 } else { 11 } }
        } else if !(0..=5).contains(&high) {
            Format { style: Style::Fixed { power: high - 1 }, width: 7 }
        } else {
            let width = if high == 0 { 7 } else { high as usize + 6 };
            Format { style: Style::Fixed { power: 0 }, width }
        };
        // "-inf" and "nan" need their room too.
        if odd { Format { width: format.width.max(5), ..format } } else { format }
    }

    fn power(self) -> i32 {
        match self.style {
            Style::Fixed { power } => power,
            _ => 0,
        }
    }

    fn number(self, out: &mut Text, value: Scalar) {
        let width = self.width;
        let v = value.to_f64();
        // A want of memory is told at the end.
        let _ = if !v.is_finite() {
            let text = if v.is_nan() {
                "nan"
            } else if v > 0.0 {
                "inf"
            } else {
                "-inf"
            };
            write!(out, "{text:>width$}")
        } else {
            match self.style {
                Style::Integer => write!(out, "{:>width$}", value.to_i64()),
                Style::Fixed { power } => write!(out, "{:>width$.4}", scaled(v, power)),
                Style::Exponent => write!(out, "{:>width$}", exponent(v)),
            }
        };
    }
}

/// `v` divided by a power of ten, which may be one that is no normal number itself.
fn scaled(v: f64, power: i32) -> f64 {
    match power {
        0 => v,
        ..-300 => v * 1e300 / 10f64.powi(power + 300),
        _ => v / 10f64.powi(power),
    }
}

/// `1.2346e+03`, as C writes it.
fn exponent(v: f64) -> String {
    let text = format!("{v:.4e}");
    match text.split_once('e') {
        Some((m, e)) => match e.strip_prefix('-') {
            Some(e) => format!("{m}e-{e:0>2}"),
            None => format!("{m}e+{e:0>2}"),
        },
        None => text,
    }
}

/// `0.001`, `1e-05`, `100000`, `1e+06`: C's `%g` of a power of ten.
fn power_of_ten(n: i32) -> String {
    if (-4..6).contains(&n) {
        format!("{}", 10f64.powi(n))
    } else {
        format!("1e{}{:02}", if n < 0 { '-' } else { '+' }, n.abs())
    }
}

/// The elements at these places of a storage.
fn values(storage: &Storage, places: impl ExactSizeIterator<Item = usize>) -> Result<Vec<Scalar>> {
    let mut out = Vec::new();
    let n = places.len();
    out.try_reserve_exact(n).map_err(|_| err!(Limit, "{n} elements are too many to print"))?;
    for place in places {
        out.push(storage.get(place)?);
    }
    Ok(out)
}

/// One number a line.
fn column(out: &mut Text, values: &[Scalar]) {
    let format = Format::of(values);
    if format.power() != 0 {
        let _ = writeln!(out, "{} *", power_of_ten(format.power()));
    }
    for &v in values {
        format.number(out, v);
        out.push('\n');
    }
}

/// Rows and columns, in pages of as many columns as a line holds.
fn matrix(out: &mut Text, values: &[Scalar], columns: usize, indent: &str) {
    let format = Format::of(values);
    let page = ((WIDTH - indent.len()) / (format.width + 1)).max(1);
    for first in (0..columns).step_by(page) {
        let last = (first + page).min(columns);
        if page < columns {
            if first > 0 {
                out.push('\n');
            }
            let _ = writeln!(out, "{indent}Columns {} to {last}", first + 1);
        }
        if format.power() != 0 {
            let _ = writeln!(out, "{indent}{} *", power_of_ten(format.power()));
        }
        for row in values.chunks_exact(columns) {
            out.push_str(indent);
            for (i, &v) in row[first..last].iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                format.number(out, v);
            }
            out.push('\n');
        }
    }
}

/// The matrices of the last two dimensions, each under its place in the others: `(1,2,.,.) = `.
fn matrices(out: &mut Text, values: &[Scalar], sizes: &[usize]) {
    let outer = sizes.len() - 2;
    let (rows, columns) = (sizes[outer], sizes[outer + 1]);
    let mut at = vec![1; outer];
    for (n, page) in values.chunks_exact(rows * columns).enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let place: Vec<String> = at.iter().map(usize::to_string).collect();
        let _ = writeln!(out, "({},.,.) = ", place.join(","));
        matrix(out, page, columns, "  ");
        for d in (0..outer).rev() {
            at[d] += 1;
            if at[d] <= sizes[d] {
                break;
            }
            at[d] = 1;
        }
    }
}

/// A tensor as Torch prints it; ends in a newline.
pub fn format_tensor(tensor: &Tensor) -> Result<String> {
    let class = tensor.dtype().tensor_class();
    if tensor.ndim() == 0 {
        return Ok(format!("[{class} with no dimension]\n"));
    }
    let mut out = Text::default();
    let values = match tensor.storage() {
        Some(storage) => values(storage, tensor.layout().places())?,
        None => Vec::new(),
    };
    match *tensor.sizes() {
        [_] => column(&mut out, &values),
        [_, columns] => matrix(&mut out, &values, columns, ""),
        ref sizes => matrices(&mut out, &values, sizes),
    }
    let _ = writeln!(out, "[{class} of size {}]", describe(tensor.sizes()));
    out.finish()
}

/// A storage as Torch prints it; ends in a newline.
pub fn format_storage(storage: &Storage) -> Result<String> {
    let values = values(storage, 0..storage.len())?;
    let mut out = Text::default();
    column(&mut out, &values);
    let _ = writeln!(out, "[{} of size {}]", storage.dtype().storage_class(), values.len());
    out.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tensor::DType;

    fn print(values: &[f64], sizes: &[i64]) -> String {
        format_tensor(&Tensor::from_slice(values).unwrap().view(sizes).unwrap()).unwrap()
    }

    #[test]
    fn integers_stand_in_narrow_columns() {
        assert_eq!(print(&[1.0, 2.0, 3.0], &[3]), " 1\n 2\n 3\n[torch.DoubleTensor of size 3]\n");
        assert_eq!(print(&[1.0, -20.0, 3.0, 4.0], &[2, 2]), "  1 -20\n  3   4\n[torch.DoubleTensor of size 2x2]\n");
    }

    #[test]
    fn fractions_have_four_decimals() {
        assert_eq!(print(&[0.5, 0.25], &[1, 2]), " 0.5000  0.2500\n[torch.DoubleTensor of size 1x2]\n");
        assert_eq!(print(&[10.5, -2.25], &[1, 2]), " 10.5000  -2.2500\n[torch.DoubleTensor of size 1x2]\n");
    }

    #[test]
    fn a_scale_stands_before_numbers_far_from_one() {
        assert_eq!(print(&[0.001, 0.0025], &[2]), "0.001 *\n 1.0000\n 2.5000\n[torch.DoubleTensor of size 2]\n");
        assert_eq!(
            print(&[1234567.5, 2e6 + 0.5], &[1, 2]),
            "1e+06 *\n 1.2346  2.0000\n[torch.DoubleTensor of size 1x2]\n"
        );
    }

    #[test]
    fn numbers_far_apart_have_exponents() {
        assert_eq!(print(&[1e-3, 12345.5], &[2]), " 1.0000e-03\n 1.2346e+04\n[torch.DoubleTensor of size 2]\n");
        assert_eq!(print(&[1e10], &[1]), " 1.0000e+10\n[torch.DoubleTensor of size 1]\n");
    }

    #[test]
    fn the_smallest_numbers_have_a_scale_too() {
        assert_eq!(print(&[1e-310], &[1]), "1e-310 *\n 1.0000\n[torch.DoubleTensor of size 1]\n");
        assert_eq!(print(&[5e-324, -1e-323], &[2]), "1e-324 *\n 4.9407\n-9.8813\n[torch.DoubleTensor of size 2]\n");
        assert_eq!(print(&[f64::MAX], &[1]), "1.7977e+308\n[torch.DoubleTensor of size 1]\n");
        assert_eq!(print(&[1e-310, 1.0], &[2]), " 1.0000e-310\n  1.0000e+00\n[torch.DoubleTensor of size 2]\n");
        assert_eq!(print(&[-0.0, 0.5], &[2]), "-0.0000\n 0.5000\n[torch.DoubleTensor of size 2]\n");
        assert_eq!(
            print(&[1.5e-310, f64::INFINITY], &[2]),
            "1e-310 *\n 1.5000\n    inf\n[torch.DoubleTensor of size 2]\n"
        );
    }

    #[test]
    fn odd_numbers_are_named() {
        assert_eq!(
            print(&[f64::NAN, f64::NEG_INFINITY, 1.5], &[3]),
            "    nan\n   -inf\n 1.5000\n[torch.DoubleTensor of size 3]\n"
        );
        assert!(print(&[f64::INFINITY], &[1]).contains("inf"));
    }

    #[test]
    fn wide_matrices_come_in_pages() {
        let text = print(&(0..60).map(f64::from).collect::<Vec<_>>(), &[2, 30]);
        assert!(text.starts_with("Columns 1 to 20\n  0   1   2"), "{text}");
        assert!(text.contains("\n\nColumns 21 to 30\n 20  21"), "{text}");
    }

    #[test]
    fn more_dimensions_are_a_row_of_matrices() {
        let text = print(&(1..=8).map(f64::from).collect::<Vec<_>>(), &[2, 2, 2]);
        let want = "(1,.,.) = \n   1  2\n   3  4\n\n(2,.,.) = \n   5  6\n   7  8\n[torch.DoubleTensor of size 2x2x2]\n";
        assert_eq!(text, want);
    }

    #[test]
    fn nothing_has_no_dimension() {
        assert_eq!(format_tensor(&Tensor::new(DType::Float)).unwrap(), "[torch.FloatTensor with no dimension]\n");
        let s = Storage::from_slice(&[7i64, 8]).unwrap();
        assert_eq!(format_storage(&s).unwrap(), " 7\n 8\n[torch.LongStorage of size 2]\n");
        assert_eq!(format_storage(&Storage::new(DType::Byte, 0).unwrap()).unwrap(), "[torch.ByteStorage of size 0]\n");
    }

    #[test]
    fn large_integers_are_exact_or_have_exponents() {
        let t = Tensor::from_slice(&[i64::MIN, 1]).unwrap();
        assert!(format_tensor(&t).unwrap().starts_with("-9.2234e+18\n 1.0000e+00\n"));
    }
}

//! `numeric`, exactly: between PostgreSQL's groups of four digits and decimal text.
//!
//! Promises: every `numeric` is read as PostgreSQL writes it, scale included, and goes back as the
//! same bytes; no text takes more memory than it has itself and a `numeric` can have. Left to others: to calculate with it.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Digits before the point: PostgreSQL's own limit.
const INTEGER_DIGITS_MAX: usize = 131_072;
/// Digits after the point: PostgreSQL's own limit.
const FRACTION_DIGITS_MAX: usize = 16_383;
/// Decimal digits in one of PostgreSQL's.
const GROUP: usize = 4;

const NEGATIVE: u16 = 0x4000;
/// What has no digits, as PostgreSQL writes it.
const SPECIAL: [(u16, &str); 3] = [(0xc000, "NaN"), (0xd000, "Infinity"), (0xf000, "-Infinity")];

/// A `numeric`: as many digits as there are, `NaN` and the infinities.
///
/// It holds the decimal text. Calculate in SQL, or with a crate of your choice, which it reaches
/// and is reached from as text:
///
/// ```
/// use hearth::postgres::Numeric;
///
/// let price: Numeric = "19.90".parse()?;
/// assert_eq!(price.as_str(), "19.90");
/// assert_eq!(Numeric::from(-7).to_string().parse::<f64>()?, -7.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Two are equal if their texts are: `1.0` is not `1.00`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Numeric(String);

impl Numeric {
    /// The text as PostgreSQL writes it: digits, perhaps with a `-` before and a `.` among them;
    /// or `NaN`, `Infinity`, `-Infinity`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => {
        $(
            impl From<$integer> for Numeric {
                fn from(integer: $integer) -> Self {
                    Self(integer.to_string())
                }
            }
        )*
    };
}

from_integers!(i8 i16 i32 i64 i128 u8 u16 u32 u64 u128);

/// A text that is no [`Numeric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseNumericError(&'static str);

impl fmt::Display for ParseNumericError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl StdError for ParseNumericError {}

impl FromStr for Numeric {
    type Err = ParseNumericError;

    /// Reads digits with at most one `-` or `+` before them, one `.` among them and an exponent behind them
    /// (`1.5e-7`, `2E+3`); `NaN`, `Infinity` or `-Infinity`.
    fn from_str(text: &str) -> Result<Self, ParseNumericError> {
        if SPECIAL.iter().any(|(_, special)| *special == text) {
            return Ok(Self(text.to_owned()));
        }
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (digits, exponent) = match digits.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, self::exponent(exponent)?),
            None => (digits, 0),
        };
        let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut all = integer.bytes().chain(fraction.bytes());
        if integer.len() + fraction.len() == 0 || !all.all(|digit| digit.is_ascii_digit()) {
            return Err(NO_NUMERIC);
        }
        if exponent == 0 {
            return Self::within_limits(is_negative, integer.trim_start_matches('0'), fraction);
        }
        let (integer, fraction) = shifted(integer, fraction, exponent)?;
        Self::within_limits(is_negative, &integer, &fraction)
    }
}

const NO_NUMERIC: ParseNumericError = ParseNumericError(
    "a numeric is written as digits with at most one point and perhaps an exponent, `NaN`, `Infinity` or `-Infinity`",
);

const TOO_LONG: ParseNumericError =
    ParseNumericError("a numeric has at most 131072 digits before the point and 16383 after it");

/// What stands behind the `e`: digits with at most one sign before them.
fn exponent(text: &str) -> Result<i64, ParseNumericError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match text.parse::<i32>() {
        Ok(exponent) => Ok(exponent.into()),
        Err(_) if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Err(NO_NUMERIC)
        }
        Err(_) => Err(TOO_LONG),
    }
}

/// The digits before the point, without leading zeros, and those after it, once it was moved by so many to the right.
fn shifted(
    integer: &str,
    fraction: &str,
    exponent: i64,
) -> Result<(String, String), ParseNumericError> {
    let digits = [integer, fraction].concat();
    let significant = digits.trim_start_matches('0');
    // The significant digits that stand before the point then, or how many zeros behind it, as a negative number.
    let before = integer.len() as i64 + exponent - (digits.len() - significant.len()) as i64;
    let after = usize::try_from(fraction.len() as i64 - exponent).unwrap_or(0);
    let zeros = |count: usize| "0".repeat(count);
    // Before there is room for any of them.
    if after > FRACTION_DIGITS_MAX {
        return Err(TOO_LONG);
    }
    if significant.is_empty() {
        return Ok((String::new(), zeros(after)));
    }
    if before > INTEGER_DIGITS_MAX as i64 {
        return Err(TOO_LONG);
    }
    let Ok(before) = usize::try_from(before) else {
        return Ok((
            String::new(),
            zeros(after - significant.len()) + significant,
        ));
    };
    Ok(match significant.split_at_checked(before) {
        Some((integer, fraction)) => (integer.to_owned(), fraction.to_owned()),
        None => (
            significant.to_owned() + &zeros(before - significant.len()),
            String::new(),
        ),
    })
}

impl Numeric {
    /// From digits, if PostgreSQL has room for them: those before the point without leading zeros.
    fn within_limits(
        is_negative: bool,
        integer: &str,
        fraction: &str,
    ) -> Result<Self, ParseNumericError> {
        match integer.len() > INTEGER_DIGITS_MAX || fraction.len() > FRACTION_DIGITS_MAX {
            true => Err(TOO_LONG),
            false => Ok(Self::assemble(is_negative, integer, fraction)),
        }
    }

    /// From digits: those before the point without leading zeros.
    fn assemble(is_negative: bool, integer: &str, fraction: &str) -> Self {
        let is_zero = integer.is_empty() && fraction.bytes().all(|digit| digit == b'0');
        let sign = if is_negative && !is_zero { "-" } else { "" };
        let integer = if integer.is_empty() { "0" } else { integer };
        let point = if fraction.is_empty() { "" } else { "." };
        Self([sign, integer, point, fraction].concat())
    }
}

impl ToSql for Numeric {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        if let Some((sign, _)) = SPECIAL.iter().find(|(_, special)| *special == self.0) {
            [0, 0, *sign, 0].iter().for_each(|word| out.put_u16(*word));
            return Ok(IsNull::No);
        }
        let digits = self.0.trim_start_matches('-');
        let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        // Groups begin and end at multiples of four digits from the point.
        let before = integer.len().next_multiple_of(GROUP);
        let after = fraction.len().next_multiple_of(GROUP);
        // A formatter's width has fewer than 65,536 places.
        let zeros = |count| std::iter::repeat_n('0', count);
        let mut padded = String::with_capacity(before + after);
        padded.extend(zeros(before - integer.len()));
        padded.push_str(integer);
        padded.push_str(fraction);
        padded.extend(zeros(after - fraction.len()));
        let groups: Vec<u16> = padded
            .as_bytes()
            .chunks(GROUP)
            .map(|group| {
                group
                    .iter()
                    .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
            })
            .collect();
        let leading = groups.iter().take_while(|group| **group == 0).count();
        let trailing = groups[leading..]
            .iter()
            .rev()
            .take_while(|group| **group == 0)
            .count();
        let significant = &groups[leading..groups.len() - trailing];
        let weight = match significant {
            [] => 0,
            // There may be 32,768 groups before the point: one more than an `i16` counts.
            _ => ((before / GROUP) as i32 - 1 - leading as i32) as i16,
        };
        let sign = if self.0.starts_with('-') { NEGATIVE } else { 0 };
        out.put_u16(significant.len() as u16);
        out.put_i16(weight);
        out.put_u16(sign);
        out.put_u16(fraction.len() as u16);
        significant.iter().for_each(|group| out.put_u16(*group));
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Numeric {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        const MALFORMED: &str = "a numeric is malformed";
        let (words, rest) = raw.as_chunks::<2>();
        let mut words = words.iter().map(|word| u16::from_be_bytes(*word));
        let mut next = || words.next().ok_or(MALFORMED);
        let (count, weight, sign, scale) = (next()?, next()? as i16, next()?, next()?);
        if let Some((_, text)) = SPECIAL.iter().find(|(special, _)| *special == sign) {
            return Ok(Self((*text).to_owned()));
        }
        let groups: Vec<u16> = words.collect();
        let is_malformed = !rest.is_empty()
            || groups.len() != usize::from(count)
            || groups.iter().any(|group| *group >= 10_000);
        if is_malformed {
            return Err(MALFORMED.into());
        }
        let digits = |index: i32| {
            let index = i32::from(weight) - index;
            let group = usize::try_from(index)
                .ok()
                .and_then(|index| groups.get(index));
            format!("{:04}", group.copied().unwrap_or(0))
        };
        // The group with number 0 stands before the point, that with -1 behind it.
        let integer: String = (0..=i32::from(weight)).rev().map(&digits).collect();
        let behind = usize::from(scale).div_ceil(GROUP) as i32;
        let mut fraction: String = (1..=behind).map(|index| digits(-index)).collect();
        fraction.truncate(usize::from(scale));
        let is_negative = sign == NEGATIVE;
        Ok(Self::assemble(
            is_negative,
            integer.trim_start_matches('0'),
            &fraction,
        ))
    }

    accepts!(NUMERIC);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> Vec<u8> {
        let numeric: Numeric = text.parse().expect(text);
        let mut out = BytesMut::new();
        numeric.to_sql(&Type::NUMERIC, &mut out).expect(text);
        out.to_vec()
    }

    #[test]
    fn text_is_encoded_as_postgresql_does_and_comes_back() {
        // As `numeric_send` writes them.
        let cases: [(&str, &[u16]); 10] = [
            ("0", &[0, 0, 0, 0]),
            ("0.00", &[0, 0, 0, 2]),
            ("7", &[1, 0, 0, 0, 7]),
            ("-123.4500", &[2, 0, 0x4000, 4, 123, 4500]),
            ("10000", &[1, 1, 0, 0, 1]),
            ("12345678.9", &[3, 1, 0, 1, 1234, 5678, 9000]),
            ("0.00001", &[1, 0xfffe, 0, 5, 1000]),
            ("NaN", &[0, 0, 0xc000, 0]),
            ("Infinity", &[0, 0, 0xd000, 0]),
            ("-Infinity", &[0, 0, 0xf000, 0]),
        ];
        for (text, words) in cases {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(encoded(text), bytes, "{text}");
            let numeric = Numeric::from_sql(&Type::NUMERIC, &bytes).expect(text);
            assert_eq!(numeric.as_str(), text);
        }
        let long = format!("-{0}.{0}", "9876543210".repeat(50));
        for text in [long, "9".repeat(INTEGER_DIGITS_MAX)] {
            let numeric = Numeric::from_sql(&Type::NUMERIC, &encoded(&text)).expect("it is one");
            assert_eq!(numeric.as_str(), text);
        }
    }

    #[test]
    fn text_becomes_what_postgresql_would_write() {
        for (text, expected) in [
            ("+1", "1"),
            ("007.50", "7.50"),
            ("-0", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1e5", "100000"),
            ("1E-7", "0.0000001"),
            ("-1.50e+1", "-15.0"),
            ("1.5e3", "1500"),
            ("0.0012e2", "0.12"),
            ("0.0012e3", "1.2"),
            ("12.34e-2", "0.1234"),
            ("12.34e-1", "1.234"),
            (".5e1", "5"),
            ("5.e0", "5"),
            ("0e-3", "0.000"),
            ("-0.00e1", "0.0"),
            ("0e999999999", "0"),
            ("1e0000000000000000000000002", "100"),
        ] {
            assert_eq!(text.parse::<Numeric>().expect(text).as_str(), expected);
        }
        assert_eq!(Numeric::from(i64::MIN).as_str(), "-9223372036854775808");
        let long = "1".repeat(INTEGER_DIGITS_MAX + 1);
        for text in [
            "", ".", "-", "1.2.3", "--1", "nan", "1_000", "٣", &long, "e5", ".e5", "1e", "1e+",
            "1e+-5", "1e5.0", "1e5e5", "1e 5", "NaNe5",
        ] {
            text.parse::<Numeric>().expect_err(text);
        }
    }

    #[test]
    fn an_exponent_leads_no_further_than_postgresql_has_room() {
        let length = |text: &str| {
            text.parse::<Numeric>()
                .map(|numeric| numeric.as_str().len())
        };
        assert_eq!(length("1e500"), Ok(501));
        assert_eq!(length("0.01e131073"), Ok(INTEGER_DIGITS_MAX));
        assert_eq!(length("10e-16383"), Ok(2 + FRACTION_DIGITS_MAX));
        let zeros = "0".repeat(200_000);
        assert_eq!(length(&format!("0.{zeros}1e200001")), Ok(1));
        let huge = "9".repeat(100_000);
        for text in [
            "1e131072",
            "0.01e131074",
            "1e-16384",
            "0e-16384",
            "1e2147483647",
            "1e-2147483648",
            "0e9999999999",
            &format!("1e{huge}"),
            &format!("1e-{huge}"),
        ] {
            assert_eq!(length(text), Err(TOO_LONG));
        }
    }

    #[test]
    fn malformed_bytes_are_an_error() {
        let cases: [&[u8]; 4] = [
            b"",
            b"\0\x01\0\0\0\0\0\0",
            b"\0\x01\0\0\0\0\0\0\0\x07\0",
            b"\0\x01\0\0\0\0\0\0\x27\x10",
        ];
        for bytes in cases {
            Numeric::from_sql(&Type::NUMERIC, bytes).expect_err("it is malformed");
        }
        let large = b"\0\x01\x7f\xff\0\0\xff\xff\0\x01";
        let numeric = Numeric::from_sql(&Type::NUMERIC, large).expect("it is well formed");
        assert_eq!(numeric.as_str().len(), 32_767 * 4 + 1 + 1 + 65_535);
    }
}

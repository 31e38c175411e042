//! Numbers, as Python writes them.

/// The number whose digits in base `2^bits` are `digits`, least significant
/// first, in decimal. `None` when it would need more than `most` characters.
///
/// `bits` is 15 or 30.
pub fn decimal(digits: &[u32], bits: u32, negative: bool, most: usize) -> Option<String> {
    /// What is taken off at a time: the largest power of ten in 32 bits.
    const STEP: u64 = 1_000_000_000;
    let mut left: Vec<u32> = digits.to_vec();
    let mut parts: Vec<u64> = Vec::new();
    loop {
        while left.last() == Some(&0) {
            left.pop();
        }
        if left.is_empty() {
            break;
        }
        if parts.len().saturating_mul(9) > most {
            return None;
        }
        let mut rest = 0;
        for digit in left.iter_mut().rev() {
            let value = (rest << bits) | u64::from(*digit);
            // A remainder is less than the step, so the quotient fits a digit
            // again, unless the target's digit had more bits than it may.
            *digit = u32::try_from(value / STEP).ok()?;
            rest = value % STEP;
        }
        parts.push(rest);
    }
    let mut text = String::from(if negative { "-" } else { "" });
    match parts.pop() {
        None => return Some("0".to_owned()),
        Some(first) => text.push_str(&first.to_string()),
    }
    for part in parts.iter().rev() {
        text.push_str(&format!("{part:09}"));
    }
    (text.len() <= most).then_some(text)
}

/// How many bits a number has whose digits in base `2^bits` are `count`, the
/// most significant of them `top`.
pub fn width(count: u64, top: u32, bits: u32) -> u64 {
    let below = count.saturating_sub(1).saturating_mul(bits.into());
    below.saturating_add(u64::from(u32::BITS - top.leading_zeros()))
}

/// The shortest text that reads back as `value`.
pub fn float(value: f64) -> String {
    notation(value.is_finite(), &format!("{value:e}"), &value.to_string())
}

/// The shortest text that reads back as `value`.
pub fn float32(value: f32) -> String {
    notation(value.is_finite(), &format!("{value:e}"), &value.to_string())
}

/// One of two notations of the same number: the exponent is written below
/// 1e-4 and from 1e16 on (`float_repr_style`, `PyOS_double_to_string` with `r`).
fn notation(finite: bool, scientific: &str, plain: &str) -> String {
    if !finite {
        return plain.to_lowercase();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..16 if plain.contains('.') => plain.to_owned(),
        -4..16 => format!("{plain}.0"),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_are_decimal() {
        let check = |digits: &[u32], bits, text: &str| {
            assert_eq!(decimal(digits, bits, false, 128).as_deref(), Some(text));
        };
        check(&[], 30, "0");
        check(&[0, 0], 30, "0");
        check(&[7], 15, "7");
        check(&[0, 1], 15, "32768");
        check(&[0, 1], 30, "1073741824");
        check(&[0, 0, 0, 1], 30, "1237940039285380274899124224");
        check(&[1, 0, 0, 0, 0, 0, 1], 15, "1237940039285380274899124225");
        // 10^18: the zeros between the parts are written.
        check(&[660_865_024, 931_322_574], 30, "1000000000000000000");
        assert_eq!(decimal(&[12], 30, true, 128).as_deref(), Some("-12"));
    }

    #[test]
    fn integers_that_are_too_long_are_not_begun() {
        assert_eq!(decimal(&[1000], 30, false, 4).as_deref(), Some("1000"));
        assert_eq!(decimal(&[1000], 30, true, 4), None);
        assert_eq!(decimal(&vec![1; 4096], 30, false, 128), None);
        assert_eq!(width(1, 1, 30), 1);
        assert_eq!(width(3, 255, 30), 68);
        assert_eq!(width(u64::MAX, 1, 30), u64::MAX);
    }

    #[test]
    fn digits_that_are_none_are_refused() {
        assert_eq!(decimal(&[0, u32::MAX, u32::MAX], 15, false, 128), None);
        assert!(decimal(&[u32::MAX; 8], 30, false, 128).is_none_or(|text| text.len() <= 128));
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let check = |value: f64, text: &str| assert_eq!(float(value), text);
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(0.1, "0.1");
        check(-2.5, "-2.5");
        check(1e15, "1000000000000000.0");
        check(9_999_999_999_999_998.0, "9999999999999998.0");
        check(1e16, "1e+16");
        check(1.5e300, "1.5e+300");
        check(0.0001, "0.0001");
        check(0.000_012_5, "1.25e-05");
        check(5e-324, "5e-324");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
        check(f64::NAN, "nan");
        assert_eq!(float32(0.1), "0.1");
        assert_eq!(float32(16_777_216.0), "16777216.0");
    }
}

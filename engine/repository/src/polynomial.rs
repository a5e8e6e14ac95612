//! Polynomials over GF(2), as a repository's config holds one for restic's chunker.
//!
//! Bit `i` of the number is the coefficient of `x^i`. Only irreducible ones cut well; restic
//! refuses a repository with another.

use std::fmt;

/// The degree of the polynomials restic makes and we make.
pub const DEGREE: u32 = 53;
/// More than this degree, and the chunker's arithmetic would overflow 64 bits.
const DEGREE_MAX: u32 = DEGREE;
const DEGREE_MIN: u32 = 16;
/// One in 26 odd polynomials of degree 53 is irreducible: this many misses are no chance.
const TRIES_MAX: u32 = 100_000;

/// An irreducible polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polynomial(u64);

/// Why a polynomial cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolynomialError {
    /// Not hexadecimal, or of a useless degree.
    #[error("`{text}` is no polynomial of degree {DEGREE_MIN} to {DEGREE_MAX}")]
    Degree {
        /// What was there.
        text: String,
    },
    /// It can be divided.
    #[error("the chunker polynomial {0:x} is not irreducible")]
    Reducible(u64),
    /// No irreducible one was found: the random bits are not random.
    #[error("the random bits gave no irreducible polynomial in {TRIES_MAX} tries")]
    NoneFound,
}

impl Polynomial {
    /// Checks a polynomial.
    pub fn new(bits: u64) -> Result<Self, PolynomialError> {
        if !(DEGREE_MIN..=DEGREE_MAX).contains(&degree(bits)) {
            return Err(PolynomialError::Degree { text: format!("{bits:x}") });
        }
        if !is_irreducible(bits) {
            return Err(PolynomialError::Reducible(bits));
        }
        Ok(Self(bits))
    }

    /// A random irreducible polynomial of degree [`DEGREE`]; `random` gives 64 random bits a call.
    pub fn random(mut random: impl FnMut() -> u64) -> Result<Self, PolynomialError> {
        let top = 1 << DEGREE;
        (0..TRIES_MAX)
            .map(|_| random() & (top - 1) | top | 1)
            .find(|bits| is_irreducible(*bits))
            .map(Self)
            .ok_or(PolynomialError::NoneFound)
    }

    /// Its coefficients.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The highest power in it.
    pub fn degree(self) -> u32 {
        degree(self.0)
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl serde::Serialize for Polynomial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Polynomial {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bits = u64::from_str_radix(&text, 16)
            .map_err(|_| PolynomialError::Degree { text: text.chars().take(20).collect() });
        bits.and_then(Self::new).map_err(serde::de::Error::custom)
    }
}

/// The highest power; 0 for the two constants, which nobody asks about.
pub(crate) fn degree(bits: u64) -> u32 {
    bits.checked_ilog2().unwrap_or(0)
}

/// The remainder of dividing `bits` by `by`.
pub(crate) fn remainder(mut bits: u64, by: u64) -> u64 {
    let by_degree = degree(by);
    while bits != 0 && degree(bits) >= by_degree {
        bits ^= by << (degree(bits) - by_degree);
    }
    bits
}

fn square_modulo(bits: u64, by: u64) -> u64 {
    let top = 1 << degree(by);
    let mut product = 0_u64;
    for place in (0..u64::BITS).rev() {
        product <<= 1;
        if product & top != 0 {
            product ^= by;
        }
        if bits >> place & 1 == 1 {
            product ^= bits;
        }
    }
    product
}

fn common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = if degree(right) == 0 { (1, 0) } else { (right, remainder(left, right)) };
    }
    left
}

/// Ben-Or's test: no irreducible factor of degree `i` up to half of the whole degree divides
/// `x^(2^i) - x`.
fn is_irreducible(bits: u64) -> bool {
    const X: u64 = 0b10;
    let mut power = X;
    (1..=degree(bits) / 2).all(|_| {
        power = square_modulo(power, bits);
        let difference = power ^ X;
        difference != 0 && common_divisor(bits, difference) == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By trial division, for small degrees.
    fn is_irreducible_by_trial(bits: u64) -> bool {
        (2..1 << (degree(bits) / 2 + 1)).all(|by| remainder(bits, by) != 0)
    }

    #[test]
    fn the_test_agrees_with_trial_division() {
        for bits in 1 << 10..1 << 13 {
            assert_eq!(is_irreducible(bits), is_irreducible_by_trial(bits), "{bits:x}");
        }
    }

    #[test]
    fn the_polynomials_of_restics_own_tests_are_known() {
        assert!(Polynomial::new(0x003d_a335_8b4d_c173).is_ok());
        assert!(Polynomial::new(0x0038_f1e5_65e2_88df).is_err());
        assert_eq!(
            Polynomial::new(0x003d_a335_8b4d_c172),
            Err(PolynomialError::Reducible(0x003d_a335_8b4d_c172))
        );
    }

    #[test]
    fn random_bits_give_an_irreducible_polynomial_and_broken_ones_an_error() {
        let mut state = 1_u64;
        for _ in 0..20 {
            let found = Polynomial::random(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                state >> 5
            })
            .unwrap();
            assert_eq!(Polynomial::new(found.bits()), Ok(found));
            assert_eq!(found.degree(), DEGREE);
        }
        assert_eq!(Polynomial::random(|| 0), Err(PolynomialError::NoneFound));
    }

    #[test]
    fn json_holds_it_in_hexadecimal() {
        let polynomial: Polynomial = serde_json::from_str("\"3da3358b4dc173\"").unwrap();
        assert_eq!(serde_json::to_string(&polynomial).unwrap(), "\"3da3358b4dc173\"");
        for wrong in ["\"0\"", "\"1\"", "\"3\"", "\"xyz\"", "7", "\"ffffffffffffffff\""] {
            assert!(serde_json::from_str::<Polynomial>(wrong).is_err(), "{wrong}");
        }
    }
}

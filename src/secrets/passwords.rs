//! Passwords: which are taken, how they are kept, whether one fits.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};

use super::SecretError;

/// Characters that a password has at least, and at most.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=1024;

/// Who guesses by lists and habits gets there within so many guesses, as a power of ten: lists of common passwords
/// are no longer than that.
const COMMON: f64 = 6.0;

/// What is wrong with a password that is to be used from now on; `names`: what whoever guesses knows of the user.
pub fn weakness(password: &str, names: &[&str]) -> Option<&'static str> {
    if !LENGTH.contains(&password.chars().count()) {
        return Some("must have 12 to 1024 characters");
    }
    let guesses = zxcvbn::zxcvbn(password, names).guesses_log10();
    (guesses < COMMON).then_some("is among the common ones, or built like them: choose another")
}

/// How a password is kept: argon2id with its defaults, as a PHC string. Takes some 50 ms.
pub fn password_hash(password: &str) -> Result<String, SecretError> {
    Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(SecretError::Password)
}

/// Whether a password is the kept one.
pub fn password_matches(password: &str, kept: &str) -> bool {
    PasswordHash::new(kept).is_ok_and(|kept| Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
}

/// Stands in for a password that is not kept: made like the others, and of no password.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The same, taking as long where none is kept, so that nobody learns from the time whether one is.
pub fn password_fits(password: &str, kept: Option<&str>) -> bool {
    let fits = password_matches(password, kept.unwrap_or(NOBODY));
    fits && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_verify() {
        let kept = password_hash("correct horse").unwrap();
        assert!(password_matches("correct horse", &kept));
        assert!(!password_matches("wrong", &kept));
        assert!(password_fits("correct horse", Some(&kept)) && !password_fits("correct horse", None));
        let costs = |kept: &str| kept.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(costs(&kept), costs(NOBODY), "nobody costs as much as somebody");
        assert!(PasswordHash::new(NOBODY).is_ok());
    }

    #[test]
    fn what_is_short_or_common_is_refused() {
        for wrong in [
            "eleven char",
            "password1234",
            "Password1234",
            "passwordpassword",
            "qwertyuiop12",
            "123456789012",
            "aaaaaaaaaaaa",
            "abcdefghijkl",
            "maria-miller",
        ] {
            assert!(weakness(wrong, &["maria-miller", "default"]).is_some(), "{wrong}");
        }
        for taken in ["correct horse", "first password", "long enough to keep", "Fähre über den Fluss"] {
            assert_eq!(weakness(taken, &["maria-miller", "default"]), None, "{taken}");
        }
    }
}

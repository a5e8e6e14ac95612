//! Maintainers' tokens: who may publish which packages over HTTP.
//!
//! A token is 32 random bytes, shown once. Kept is its SHA-256 alone: nobody guesses 32 bytes, so
//! no slow hash is needed, and a copy of the table opens nothing.

use crate::error::DepotError;
use crate::place::{Place, read, write_whole};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Tokens of a depot, at most.
const TOKENS_MAX: usize = 256;
/// A longer table is not read.
pub const TABLE_BYTES_MAX: u64 = 1 << 20;
/// A longer name is refused.
const NAME_CHARACTERS_MAX: usize = 64;
/// What a token begins with, so that it is known for what it is when it turns up in a log.
const PREFIX: &str = "hfdt_";

/// Who may publish what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The maintainer's name.
    pub name: String,
    /// SHA-256 of the token, hex.
    sha256: String,
    /// The packages it is for; `*` is every one.
    pub packages: Vec<String>,
}

impl Token {
    /// Whether it may publish that package.
    pub fn is_for(&self, package: &str) -> bool {
        self.packages.iter().any(|allowed| allowed == "*" || allowed == package)
    }
}

/// A depot's tokens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tokens {
    tokens: Vec<Token>,
}

impl Tokens {
    /// The tokens of the depot in `root`.
    pub fn of(root: &Path) -> Result<Self, DepotError> {
        let place = Place::at(root);
        place.current()?;
        let path = place.tokens();
        if !path.exists() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&read(&path, TABLE_BYTES_MAX)?)
            .map_err(|error| DepotError::damaged(&path, error))
    }

    /// Every token, without what would open anything.
    pub fn all(&self) -> &[Token] {
        &self.tokens
    }

    /// Whose token was presented. How long that takes tells nothing about any token.
    pub fn owner(&self, presented: &str) -> Option<&Token> {
        let presented = hash(presented);
        let mut owner = None;
        for token in &self.tokens {
            if is_same(token.sha256.as_bytes(), presented.as_bytes()) {
                owner = Some(token);
            }
        }
        owner
    }
}

/// Makes a token for a maintainer, grown from `seed`; its text, which is kept nowhere.
pub fn add_token(
    root: &Path,
    name: &str,
    packages: &[String],
    seed: &[u8; 32],
) -> Result<String, DepotError> {
    let text = format!("{PREFIX}{}", hex::encode(seed));
    change(root, |tokens| {
        let is_taken = tokens.iter().any(|token| token.name == name);
        let is_sound = !name.is_empty() && name.chars().count() <= NAME_CHARACTERS_MAX;
        if is_taken || !is_sound || tokens.len() >= TOKENS_MAX {
            return Err(DepotError::TokenName { name: name.to_owned() });
        }
        let packages = packages.to_vec();
        tokens.push(Token { name: name.to_owned(), sha256: hash(&text), packages });
        Ok(())
    })?;
    Ok(text)
}

/// Takes a maintainer's token away.
pub fn remove_token(root: &Path, name: &str) -> Result<(), DepotError> {
    change(root, |tokens| {
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        match tokens.len() < before {
            true => Ok(()),
            false => Err(DepotError::NoSuchToken { name: name.to_owned() }),
        }
    })
}

fn change(
    root: &Path,
    act: impl FnOnce(&mut Vec<Token>) -> Result<(), DepotError>,
) -> Result<(), DepotError> {
    let place = Place::at(root);
    place.current()?;
    let _lock = place.lock()?;
    let mut table = Tokens::of(root)?;
    act(&mut table.tokens)?;
    let bytes = serde_json::to_vec_pretty(&table).unwrap_or_default();
    write_whole(&place.tokens(), &bytes, 0o600)
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Looks at every byte, whatever the first ones are.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Stage;

    #[test]
    fn a_token_opens_its_packages_alone_until_it_is_taken_away() {
        let stage = Stage::new();
        let root = stage.depot();
        let anna = add_token(&root, "anna", &["hello".to_owned()], &[7; 32]).unwrap();
        let all = add_token(&root, "keeper", &["*".to_owned()], &[8; 32]).unwrap();
        assert!(add_token(&root, "anna", &["*".to_owned()], &[9; 32]).is_err());
        let kept = std::fs::read_to_string(root.join("tokens.json")).unwrap();
        assert!(!kept.contains(anna.trim_start_matches(PREFIX)));
        let tokens = Tokens::of(&root).unwrap();
        let owner = tokens.owner(&anna).unwrap();
        assert!(owner.is_for("hello") && !owner.is_for("hell") && !owner.is_for("notes"));
        assert!(tokens.owner(&all).unwrap().is_for("notes"));
        for wrong in ["", PREFIX, &anna[..anna.len() - 1], &format!("{anna}0"), "hfdt_00"] {
            assert!(tokens.owner(wrong).is_none(), "{wrong}");
        }
        remove_token(&root, "anna").unwrap();
        assert!(remove_token(&root, "anna").is_err());
        assert!(Tokens::of(&root).unwrap().owner(&anna).is_none());
    }
}

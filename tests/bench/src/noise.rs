//! Bytes of the kinds real files are made of, the same on every machine for the same seed.

/// A generator that needs no crate (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The dice of this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `from` up to, not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from).max(1)
    }
}

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuff {
    /// Words, indented: compresses to a quarter or so.
    Text,
    /// Lines of a log: a time, a few fields: compresses to an eighth or so.
    Log,
    /// Machine code and tables: compresses to a half or so.
    Binary,
    /// Pages of a database: headers, rows, slack.
    Database,
    /// Photos, videos, archives: does not compress.
    Photo,
}

/// Words a text is made of; common ones are short.
const WORDS: u64 = 3000;

fn word(number: u64, into: &mut Vec<u8>) {
    let mut dice = Dice::of(number);
    let letters = 2 + number.ilog2().min(8) + (dice.roll() % 3) as u32;
    into.extend((0..letters).map(|_| b"etaoinshrdlucmfwypvbgk_.("[dice.between(0, 25) as usize]));
}

/// A number below `WORDS`, small ones far more often.
fn common(dice: &mut Dice) -> u64 {
    let wide = dice.between(1, WORDS);
    1 + dice.between(0, wide)
}

/// Appends `bytes` bytes of `stuff` to `into`; the same for the same dice.
pub fn fill(stuff: Stuff, bytes: usize, dice: &mut Dice, into: &mut Vec<u8>) {
    let end = into.len() + bytes;
    while into.len() < end {
        match stuff {
            Stuff::Text => text_line(dice, into),
            Stuff::Log => log_line(dice, into),
            Stuff::Binary => instructions(dice, into),
            Stuff::Database => page(dice, into),
            Stuff::Photo => into.extend((0..64).flat_map(|_| dice.roll().to_le_bytes())),
        }
    }
    into.truncate(end);
}

fn text_line(dice: &mut Dice, into: &mut Vec<u8>) {
    let indent = usize::try_from(dice.between(0, 5) * 4).unwrap_or(0);
    into.resize(into.len() + indent, b' ');
    for _ in 0..dice.between(2, 12) {
        word(common(dice), into);
        into.push(b' ');
    }
    into.push(b'\n');
}

fn log_line(dice: &mut Dice, into: &mut Vec<u8>) {
    let second = dice.between(1_700_000_000, 1_700_900_000);
    into.extend_from_slice(format!("{second} host daemon[{}]: ", dice.between(1, 400)).as_bytes());
    for _ in 0..dice.between(3, 7) {
        word(1 + dice.between(0, 120), into);
        into.push(b' ');
    }
    into.extend_from_slice(format!("took {} ms\n", dice.between(0, 900)).as_bytes());
}

fn instructions(dice: &mut Dice, into: &mut Vec<u8>) {
    for _ in 0..128 {
        let bits = dice.roll();
        into.extend_from_slice(&[0x48, (bits & 15) as u8, 0x8b, (bits >> 8) as u8, 0, 0]);
    }
}

fn page(dice: &mut Dice, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(b"PAGE");
    into.extend_from_slice(&dice.roll().to_be_bytes());
    while into.len() < start + 5500 {
        into.extend_from_slice(&(dice.roll() as u32).to_be_bytes());
        for _ in 0..4 {
            word(common(dice), into);
        }
        into.extend_from_slice(&dice.roll().to_be_bytes());
    }
    into.resize(start + 8192, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_others() {
        for stuff in [Stuff::Text, Stuff::Log, Stuff::Binary, Stuff::Database, Stuff::Photo] {
            let made = |seed| {
                let mut bytes = Vec::new();
                fill(stuff, 10_001, &mut Dice::of(seed), &mut bytes);
                bytes
            };
            assert_eq!(made(7).len(), 10_001);
            assert_eq!(made(7), made(7));
            assert_ne!(made(7), made(8), "{stuff:?}");
        }
    }
}

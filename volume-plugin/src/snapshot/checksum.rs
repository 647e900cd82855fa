//! The checksum of a page of data: 32 sums of a page's words side by side, each begun differently, each
//! step a multiplication as in FNV-1a with its upper bits mixed in, folded together with the number of
//! the block, in 16 bits of which none is 0 alone.

const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;

/// Where the sums begin: numbers that PostgreSQL's developers drew once.
const BEGIN: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum that the page, as block `number` of its relation, should carry.
pub(super) fn of(page: &[u8], number: u32) -> u16 {
    let mut sums = BEGIN;
    for (row, words) in page.chunks_exact(4 * SUMS).enumerate() {
        for (index, word) in words.chunks_exact(4).enumerate() {
            let mut word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && index == 2 {
                // The checksum itself counts as 0.
                word &= 0xffff_0000;
            }
            sums[index] = step(sums[index], word);
        }
    }
    for _ in 0..2 {
        for sum in &mut sums {
            *sum = step(*sum, 0);
        }
    }
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum) ^ number;
    u16::try_from(folded % 65535 + 1).unwrap_or(0)
}

fn step(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

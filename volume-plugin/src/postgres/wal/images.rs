//! Which blocks a record of the WAL writes as a whole: with an image of the page, or from nothing.

/// A block of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its tablespace's number.
    pub tablespace: u32,
    /// Its database's; 0 for what all have in common.
    pub database: u32,
    /// Its relation's, as its file has it.
    pub relation: u32,
    /// Which file of the relation: 0 the data, 1 free space, 2 visibility, 3 the empty one.
    pub fork: u8,
    /// Counted over all files of the fork.
    pub block: u32,
}

/// Header of a record.
const HEADER: usize = 24;

/// Flags in a block's header, with the fork in the lower half of the byte.
const HAS_IMAGE: u8 = 0x10;
const FROM_NOTHING: u8 = 0x40;
const SAME_RELATION: u8 = 0x80;

/// Flags of an image: it has a hole; and, by version, it is compressed.
const HAS_HOLE: u8 = 1;

/// Parts of a record that are no blocks.
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TRANSACTION: u8 = 252;
const LAST_BLOCK: u8 = 32;

/// The blocks that the whole record `record`, of a server with this version of the WAL's pages, writes as a whole.
pub fn whole_blocks(record: &[u8], magic: u16) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut reader = Reader { bytes: record, at: HEADER };
    // Whatever does not fit ends it: the record's checksum was right, so that is another version.
    let _whole = read(&mut reader, magic, &mut blocks);
    blocks
}

fn read(reader: &mut Reader, magic: u16, blocks: &mut Vec<Block>) -> Option<()> {
    let mut relation = None;
    loop {
        match reader.u8()? {
            DATA_SHORT => return reader.skip(1),
            DATA_LONG => return reader.skip(4),
            ORIGIN => reader.skip(2)?,
            TRANSACTION => reader.skip(4)?,
            id if id <= LAST_BLOCK => {
                let flags = reader.u8()?;
                reader.skip(2)?;
                if flags & HAS_IMAGE != 0 {
                    reader.skip(4)?;
                    let info = reader.u8()?;
                    if info & HAS_HOLE != 0 && info & compressed(magic) != 0 {
                        reader.skip(2)?;
                    }
                }
                if flags & SAME_RELATION == 0 {
                    relation = Some((reader.u32()?, reader.u32()?, reader.u32()?));
                }
                let (tablespace, database, relation) = relation?;
                let block = reader.u32()?;
                if flags & (HAS_IMAGE | FROM_NOTHING) != 0 {
                    let fork = flags & 0x0f;
                    blocks.push(Block { tablespace, database, relation, fork, block });
                }
            }
            _ => return None,
        }
    }
}

/// Flags of compressed images: one up to version 14, a method each from 15 on.
fn compressed(magic: u16) -> u8 {
    if magic < 0xd110 { 0x02 } else { 0x04 | 0x08 | 0x10 }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes: [u8; 4] = self.bytes.get(self.at..self.at + 4)?.try_into().ok()?;
        self.at += 4;
        Some(u32::from_le_bytes(bytes))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(parts: &[&[u8]]) -> Vec<u8> {
        [&[0; HEADER][..], &parts.concat()].concat()
    }

    const RELATION: [u8; 12] = [0x7f, 6, 0, 0, 5, 0, 0, 0, 0, 0x40, 0, 0];

    #[test]
    fn images_and_new_pages_are_found_and_changes_are_not() {
        let first: &[u8] = &[0, HAS_IMAGE, 0, 0, 9, 9, 9, 9, HAS_HOLE | 0x04, 7, 7];
        let second: &[u8] = &[1, SAME_RELATION | 2, 3, 0, 8, 0, 0, 0];
        let third: &[u8] = &[2, FROM_NOTHING, 0, 0];
        let end: &[u8] = &[DATA_SHORT, 3, 1, 2, 3];
        let bytes = record(&[
            first,
            &RELATION,
            &[7, 0, 0, 0],
            second,
            third,
            &RELATION,
            &[9, 0, 0, 0],
            end,
        ]);
        let block =
            |fork, block| Block { tablespace: 1663, database: 5, relation: 16384, fork, block };
        assert_eq!(whole_blocks(&bytes, 0xd116), [block(0, 7), block(0, 9)]);
    }

    #[test]
    fn an_old_version_says_otherwise_that_an_image_is_compressed() {
        let first: &[u8] = &[0, HAS_IMAGE, 0, 0, 9, 9, 9, 9, HAS_HOLE | 0x04];
        let bytes = record(&[first, &RELATION, &[7, 0, 0, 0], &[DATA_SHORT, 0]]);
        assert_eq!(whole_blocks(&bytes, 0xd10d)[0].block, 7);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: u16) {
            drop(whole_blocks(&bytes, magic));
        }
    }
}

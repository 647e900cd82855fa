//! What of a segment has been written by now. A server makes segments ahead, of zeros or of old ones under
//! a new name, and writes their pages in order: the first that does not say that it belongs where it is has
//! not been written yet, and neither has what is behind it.

use std::fs::File;
use std::io;

use super::segment::Segment;
use super::walk::{belongs, read_at, u16_at, u64_at};
use crate::postgres::control::Control;

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// The pages of `file`, which has the name of `segment`, that are written; none where it has not been begun.
/// `before` is what this gave of it earlier, or empty: of that the last page alone may have changed.
pub fn written(
    file: &File,
    segment: Segment,
    control: &Control,
    before: Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    if !belongs(file, segment, control)? {
        return Ok(None);
    }
    let (size, block) = (control.details.wal_segment_size, control.details.wal_block_size);
    let start = segment.start(size).0;
    let [size, block] = [size, block].map(|it| usize::try_from(it).unwrap_or(0));
    if !block.is_power_of_two() || block > CHUNK {
        return Err(io::Error::other("the control file names no possible size of pages"));
    }
    let mut bytes = before;
    bytes.truncate(bytes.len().saturating_sub(block) / block * block);
    while bytes.len() < size {
        let at = bytes.len();
        bytes.resize(size.min(at + CHUNK), 0);
        let read = read_at(file, &mut bytes[at..], at as u64)?;
        let whole = read / block * block;
        for page in (at..at + whole).step_by(block) {
            let header = &bytes[page..page + 16];
            if u16_at(header, 0) >> 8 != 0xd1 || u64_at(header, 8) != start + page as u64 {
                bytes.truncate(page);
                return Ok(Some(bytes));
            }
        }
        if whole < CHUNK {
            bytes.truncate(at + whole);
            break;
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use plugin_sdk::durable;

    use super::super::sample::{BLOCK, SIZE, Sample};
    use super::*;

    #[test]
    fn pages_count_up_to_the_first_that_is_another_s() {
        let dir = tempfile::tempdir().unwrap();
        let mut sample = Sample::new(3);
        let redo = sample.record(10, 0, &[7; 64]);
        for _ in 0..20 {
            sample.record(10, 0, &vec![9; 20_000]);
        }
        let end = usize::try_from(sample.at.next_multiple_of(BLOCK)).unwrap() % SIZE as usize;
        sample.write(dir.path());
        let control = Sample::control(redo, redo);
        let segment = Segment::holding(redo, 1, SIZE);
        let path = dir.path().join(segment.file_name(SIZE));
        let whole = std::fs::read(&path).unwrap();
        let read = |name: Segment| {
            written(&File::open(&path).unwrap(), name, &control, Vec::new()).unwrap()
        };
        assert_eq!(read(segment).unwrap(), whole[..end]);
        // Behind it is what the file was before.
        let mut old = whole.clone();
        for page in (end..old.len()).step_by(usize::try_from(BLOCK).unwrap()) {
            old.copy_within(0..8192, page);
        }
        durable::write(&path, &old).unwrap();
        assert_eq!(read(segment).unwrap(), whole[..end]);
        // Under the name of the next it has not been begun.
        assert!(read(Segment { number: segment.number + 1, ..segment }).is_none());
        // From where it was read before.
        let before = whole[..end / 2 / 8192 * 8192].to_vec();
        let again = written(&File::open(&path).unwrap(), segment, &control, before);
        assert_eq!(again.unwrap().unwrap(), whole[..end]);
        // What was cut short.
        durable::write(&path, &whole[..end]).unwrap();
        assert_eq!(read(segment).unwrap(), whole[..end]);
    }
}

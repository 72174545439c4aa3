//! A file of pcapng that comes in pieces, cut into its blocks.

use std::io::{Error, ErrorKind};

use pcap_file::PcapError;
use pcap_file::pcapng::PcapNgParser;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;

/// A file on its way.
pub(super) struct Pieces {
    rest: Vec<u8>,
    parser: Option<PcapNgParser>,
    /// Octets that there is still room for.
    room: u64,
    full: bool,
    /// Frames that came.
    pub(super) frames: u64,
    /// Frames that should have come.
    pub(super) missed: u64,
}

/// A block of the file, whole.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) octets: &'a [u8],
    /// What is in it, if that is a frame.
    pub(super) frame: Option<Frame<'a>>,
}

/// A captured frame, and the name of its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) packet: EnhancedPacketBlock<'a>,
    pub(super) interface: String,
}

impl Frame<'_> {
    /// Whether it came in.
    pub(super) fn came(&self) -> bool {
        const DIRECTION: u32 = 0b11;
        const INBOUND: u32 = 1;
        let came = |option: &EnhancedPacketOption<'_>| matches!(option, EnhancedPacketOption::Flags(flags) if flags & DIRECTION == INBOUND);
        self.packet.options.iter().any(came)
    }

    /// What is said about it.
    pub(super) fn comment(&self) -> &str {
        let mut options = self.packet.options.iter();
        let comment = options.find_map(|option| {
            let EnhancedPacketOption::Comment(comment) = option else {
                return None;
            };
            Some(comment.as_ref())
        });
        comment.unwrap_or_default()
    }

    /// Frames before it that are missing.
    fn missed(&self) -> u64 {
        let missed = self.packet.options.iter().map(|option| {
            let EnhancedPacketOption::DropCount(missed) = option else {
                return 0;
            };
            *missed
        });
        missed.sum()
    }
}

impl Pieces {
    /// Before the first piece, with room for so many octets.
    pub(super) fn new(room: u64) -> Self {
        Self {
            rest: Vec::new(),
            parser: None,
            room,
            full: false,
            frames: 0,
            missed: 0,
        }
    }

    /// Whether there was no room for what came.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Takes a piece, and gives `each` the blocks that are whole with it; whether there is room for more.
    ///
    /// # Errors
    /// Those of `each`, and if this is no file of pcapng.
    pub(super) fn take(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&Block<'_>) -> std::io::Result<()>,
    ) -> std::io::Result<bool> {
        self.rest.extend_from_slice(piece);
        let all = std::mem::take(&mut self.rest);
        let mut rest = all.as_slice();
        loop {
            let (after, frame) = match self.next(rest) {
                Err(PcapError::IncompleteBuffer) => break,
                next => next.map_err(|error| Error::new(ErrorKind::InvalidData, error))?,
            };
            let octets = rest.get(..rest.len() - after.len()).unwrap_or_default();
            let Some(room) = self.room.checked_sub(octets.len() as u64) else {
                self.full = true;
                return Ok(false);
            };
            self.room = room;
            self.frames += u64::from(frame.is_some());
            self.missed += frame.as_ref().map_or(0, Frame::missed);
            each(&Block { octets, frame })?;
            rest = after;
        }
        self.rest = rest.to_vec();
        Ok(true)
    }

    /// What is behind the first block, and the frame in it, if that is what it holds.
    fn next<'a>(&mut self, octets: &'a [u8]) -> Result<(&'a [u8], Option<Frame<'a>>), PcapError> {
        let Some(parser) = &mut self.parser else {
            let (after, parser) = PcapNgParser::new(octets)?;
            self.parser = Some(parser);
            return Ok((after, None));
        };
        let (after, block) = parser.next_block(octets)?;
        let frame = block.into_enhanced_packet().map(|packet| {
            let interface = parser.packet_interface(&packet);
            let mut options = interface.into_iter().flat_map(|i| &i.options);
            let name = options.find_map(|option| {
                let InterfaceDescriptionOption::IfName(name) = option else {
                    return None;
                };
                Some(name.to_string())
            });
            let interface = name.unwrap_or_default();
            Frame { packet, interface }
        });
        Ok((after, frame))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use pcap_file::DataLink;
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;

    use super::*;

    fn file() -> Vec<u8> {
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfName(Cow::Borrowed("core"))],
        };
        writer.write_pcapng_block(interface).unwrap();
        for number in 0..3u8 {
            let packet = EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::from_nanos(number.into()),
                original_len: 60,
                data: Cow::Owned(vec![number; 5]),
                options: vec![
                    EnhancedPacketOption::Comment(Cow::Borrowed("why")),
                    EnhancedPacketOption::Flags(u32::from(number % 2)),
                    EnhancedPacketOption::DropCount(7),
                ],
            };
            writer.write_pcapng_block(packet).unwrap();
        }
        writer.into_inner()
    }

    #[test]
    fn blocks_are_whole_whatever_the_pieces() {
        let file = file();
        for size in [1, 7, 64, 1000] {
            let mut pieces = Pieces::new(u64::MAX);
            let (mut written, mut seen) = (Vec::new(), Vec::new());
            for piece in file.chunks(size) {
                let more = pieces.take(piece, |block| {
                    written.extend_from_slice(block.octets);
                    if let Some(frame) = &block.frame {
                        let data = frame.packet.data.to_vec();
                        let interface = frame.interface.clone();
                        seen.push((data, frame.came(), frame.comment().to_owned(), interface));
                    }
                    Ok(())
                });
                assert!(more.unwrap());
            }
            assert_eq!(written, file);
            assert_eq!((pieces.frames, pieces.missed), (3, 21));
            let expected = |number: u8| {
                let (why, core) = ("why".to_owned(), "core".to_owned());
                (vec![number; 5], number == 1, why, core)
            };
            assert_eq!(seen, [0, 1, 2].map(expected));
        }
    }

    #[test]
    fn what_has_no_room_is_left_out_whole() {
        let file = file();
        let mut pieces = Pieces::new(file.len() as u64 - 1);
        let mut written = Vec::new();
        let more = pieces.take(&file, |block| {
            written.extend_from_slice(block.octets);
            Ok(())
        });
        assert!(!more.unwrap() && pieces.is_full());
        assert_eq!(pieces.frames, 2);
        assert!(file.starts_with(&written) && written.len() < file.len());
        let mut wrong = file;
        // Where the order of octets is said.
        wrong[8..12].copy_from_slice(b"what");
        assert!(Pieces::new(99).take(&wrong, |_| Ok(())).is_err());
    }
}

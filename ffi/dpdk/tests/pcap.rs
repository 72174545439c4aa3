//! Frames from a capture file, a header in front, and into another capture file.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod common;

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use common::{assert_all_free, eal, pool, start};
use dpdk::{Burst, Device, Port, PortConfig};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

#[test]
fn pcap() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    let frames: Vec<Vec<u8>> = [60, 61, 590, 1280, 1500]
        .map(|len| (0..=255).cycle().take(len).collect())
        .into();
    let mut writer = PcapWriter::new(File::create(&input).unwrap()).unwrap();
    for frame in &frames {
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(Duration::ZERO, len, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);

    let eal = eal();
    let pool = pool(&eal);
    let device = Device::Pcap {
        input,
        output: output.clone(),
    };
    // A capture file has one queue, however many are asked for.
    let config = PortConfig {
        queues: 4,
        ..PortConfig::default()
    };
    let mut port = Port::open_at_most(&eal, &device, 0, &config, &pool).unwrap();
    assert_eq!((port.queues(), port.spreads_by_flow()), (1, false));
    let (mut rx, mut tx) = start(&mut port);
    let mut burst = Burst::<32>::new();
    assert_eq!(rx.burst(&mut burst), frames.len());
    assert_eq!(pool.in_use(), frames.len());
    for mbuf in &mut burst {
        mbuf.prepend(40).unwrap().fill(0x60);
    }
    assert_eq!(tx.burst(&mut burst), frames.len());
    assert_eq!(rx.burst(&mut burst), 0, "the file ends");
    drop((rx, tx, port));
    assert_all_free(&pool);

    let mut reader = PcapReader::new(File::open(output).unwrap()).unwrap();
    for frame in &frames {
        let packet = reader.next_packet().unwrap().unwrap();
        assert_eq!(packet.data, Cow::from([&[0x60; 40], &frame[..]].concat()));
    }
    assert!(reader.next_packet().is_none());
}

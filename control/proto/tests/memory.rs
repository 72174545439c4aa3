//! What a mobile costs an LMA in memory.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is test code, where a panic is a finding"
)]

use std::alloc::System;
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, HandoffIndicator, Hnp, Lmaa, MacAddr, MnId, ProxyCoa};
use pmip_proto::{Lma, LmaConfig, MagPeer, Now, PrefixPool};
use pmip_wire::{BindingLifetime, HnpOption, Pbu, PbuFlags};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
const MAGS: u16 = 10;
const MOBILES: u32 = 10_000;

/// An allocator's header and rounding up, for each block.
const OVERHEAD: usize = 16;

fn coa(n: u16) -> ProxyCoa {
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, n % MAGS, 0, 0, 0, 1))
}

/// Registers an interface of every mobile, each at a MAG `shift` on from its first.
fn register(lma: &mut Lma, sequence: u16, interface: u8, shift: u16, handoff: HandoffIndicator) {
    ask(lma, (sequence, 900), interface, shift, handoff);
}

/// As [`register`], with a sequence number and a lifetime.
fn ask(
    lma: &mut Lma,
    (sequence, lifetime): (u16, u16),
    interface: u8,
    shift: u16,
    handoff: HandoffIndicator,
) {
    for n in 0..MOBILES {
        let [_, a, b, c] = n.to_be_bytes();
        let pbu = Pbu {
            sequence,
            flags: PbuFlags::REQUEST,
            lifetime: BindingLifetime::from_units(lifetime),
            mn_id: Some(MnId::new(&format!("mn{n}@example.net")).unwrap().into()),
            hnps: vec![HnpOption::ALL_ZERO],
            handoff: Some(handoff),
            access: Some(AccessTechnology(4)),
            ll_id: Some(MacAddr([2, 0, interface, a, b, c]).into()),
            ..Pbu::default()
        };
        let mag = coa(u16::from_be_bytes([b, c]).wrapping_add(shift));
        let now = Now {
            monotonic: Duration::from_millis(u64::from(n)),
            ..Now::default()
        };
        lma.handle_message(now, mag.0, LMAA.0, &pbu.into());
        while lma.poll_command().is_some() {}
        while lma.poll_event().is_some() {}
    }
}

/// Octets in use per mobile.
fn per_mobile(before: Stats) -> usize {
    let now = ALLOCATOR.stats();
    let blocks = |s: &Stats| s.allocations - s.deallocations;
    let octets = |s: &Stats| s.bytes_allocated - s.bytes_deallocated;
    let (blocks, octets) = (
        blocks(&now) - blocks(&before),
        octets(&now) - octets(&before),
    );
    (octets + blocks * OVERHEAD) / MOBILES as usize
}

/// One test, because the allocator counts for all threads.
#[test]
fn mobiles_are_small() {
    let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 36).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    let peers = (0..MAGS).map(|n| MagPeer::new(coa(n))).collect();
    let config = LmaConfig::new(LMAA, peers, vec![pool]);
    let before = ALLOCATOR.stats();
    let mut lma = Lma::new(config, 1);

    register(&mut lma, 1, 1, 0, HandoffIndicator::NEW_INTERFACE);
    let attached = per_mobile(before);
    register(&mut lma, 2, 1, 1, HandoffIndicator::BETWEEN_MAGS);
    let moving = per_mobile(before);
    // The MAGs that were left say so.
    ask(&mut lma, (3, 0), 1, 0, HandoffIndicator::UNKNOWN);
    let moved = per_mobile(before);
    register(&mut lma, 4, 2, 5, HandoffIndicator::NEW_INTERFACE);
    let twice = per_mobile(before);

    assert_eq!(lma.mobiles(), MOBILES as usize);
    assert_eq!(lma.bindings().count(), 2 * MOBILES as usize);
    assert!(attached < 900, "{attached} octets after attachment");
    assert!(moving < 1000, "{moving} octets while two MAGs may have it");
    assert!(moved < 900, "{moved} octets after a handoff");
    assert!(twice < 1400, "{twice} octets with two sessions");

    register(&mut lma, 5, 1, 1, HandoffIndicator::NO_CHANGE);
    let refreshed = per_mobile(before);
    assert_eq!(refreshed, twice, "refreshes leave something behind");
}

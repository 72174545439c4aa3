//! The steady fast path touches no heap.
#![expect(unsafe_code, reason = "counting allocations takes an allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::*;
use flow::{Binding, Role, RuleAction};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above; `pointer` came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
/// Heap calls of 100 turns that forward `frames`, which go in by `port` and are taken off `out`.
fn heap_calls(rig: &mut Rig, frames: &[(flow::PortId, Vec<u8>)]) -> u64 {
    let pool = rig.io.pool().clone();
    let mut calls = 0;
    // The first rounds let the queues of the memory ports grow to their size.
    for round in 0..110 {
        for (port, frame) in frames {
            let packet = pool.packet(frame).unwrap();
            rig.io.receive_packet(*port, packet);
        }
        let before = ALLOCATIONS.get();
        let received = rig.worker.turn();
        if round >= 10 {
            calls += ALLOCATIONS.get() - before;
        }
        assert_eq!(received, frames.len());
        let sent = [CORE, EDGE]
            .map(|p| rig.sent(p).len())
            .iter()
            .sum::<usize>();
        assert_eq!(sent, frames.len());
    }
    rig.check();
    calls
}

/// Mobile `n`'s binding with so many rules.
fn ruled(n: u16, rules: u16) -> Option<Binding> {
    let rule = |i| rule(i + 1, 5000 + i, RuleAction::Forward(flow::PathId(1)));
    Some(Binding {
        rules: (0..rules).map(rule).collect(),
        ..lma_binding(n, &[1, 2])?
    })
}

/// A worker neither allocates for an update nor frees what one replaces, not even rules that do not fit a record.
#[test]
fn updates_allocate_nothing() {
    let mut rig = Rig::lma();
    rig.turn();
    for round in 0..20 {
        for (n, rules) in [(1, 4), (2, 16), (1, 16), (2, 0), (1, 2), (1, 33)] {
            rig.binding(Role::Lma, n, ruled(n, rules));
        }
        let (before, applied) = (ALLOCATIONS.get(), rig.control.applied());
        rig.worker.turn();
        assert_eq!(ALLOCATIONS.get() - before, 0, "in round {round}");
        assert_eq!(rig.control.applied() - applied, 6);
    }
    rig.check();
}

#[test]
fn forwarding_allocates_nothing() {
    let mut rig = Rig::lma();
    for (n, rules) in [(1, 4), (2, 16)] {
        rig.binding(Role::Lma, n, ruled(n, rules));
    }
    rig.turn();
    let down = (0..32).map(|i| (EDGE, udp(CN_MAC, EDGE, cn(), mn(1 + i % 2), 5000 + i, b"d")));
    let up = (0..32).map(|i| {
        let to = if i % 4 == 0 { mn(2) } else { cn() };
        let inner = udp(MN_MAC, CORE, mn(1), to, i, b"u");
        (CORE, tunnelled(MAG1_MAC, mag1(), lmaa(), packet(&inner)))
    });
    let frames: Vec<_> = down.chain(up).collect();
    assert_eq!(heap_calls(&mut rig, &frames), 0);

    let mut rig = Rig::mag();
    let up = (0..32).map(|i| (EDGE, udp(MN_MAC, EDGE, mn(1), cn(), i, b"u")));
    let down = (0..32).map(|i| {
        let inner = udp(CN_MAC, CORE, cn(), mn(1), i, b"d");
        (CORE, tunnelled(LMA_MAC, lmaa(), mag1(), packet(&inner)))
    });
    let frames: Vec<_> = up.chain(down).collect();
    assert_eq!(heap_calls(&mut rig, &frames), 0);
}

#[test]
fn errors_and_answers_allocate_nothing() {
    let mut config = Rig::lma_config();
    config.icmp_errors = dataplane::Rate {
        per_second: 1,
        burst: u32::MAX,
    };
    let mut rig = Rig::new(config);
    rig.neighbour(EDGE, cn(), Some(CN_MAC));
    rig.turn();
    let echo = icmp(cn(), lmaa(), 128, [0; 4], b"echo");
    let frames: Vec<_> = (0..16)
        .flat_map(|_| {
            [
                (EDGE, udp(CN_MAC, EDGE, cn(), mn(5), 1, b"no binding")),
                (
                    EDGE,
                    ipv6(CN_MAC, PORT_MACS[1], cn(), lmaa(), 58, 64, &echo),
                ),
            ]
        })
        .collect();
    assert_eq!(heap_calls(&mut rig, &frames), 0);
}

#[test]
fn fragments_allocate_nothing() {
    let mut rig = Rig::lma();
    rig.path(Role::Lma, 1, Some(narrow_tunnel(lmaa(), mag1(), 1280)));
    rig.turn();
    // Eight are cut in two, eight are put together from two, eight are inner fragments.
    let cut = (0..8).map(|_| (EDGE, sized(CN_MAC, EDGE, cn(), mn(1), 1280)));
    let inner = sized(MN_MAC, CORE, mn(1), cn(), 1200);
    let pieces = (0..8).flat_map(|id| {
        let (first, rest) = packet(&inner).split_at(608);
        [(first, [0, 1]), (rest, 608_u16.to_be_bytes())].map(|(body, [high, low])| {
            let header = [41, 0, high, low, 0, 0, 0, id];
            let payload = [&header[..], body].concat();
            let frame = ipv6(MAG1_MAC, PORT_MACS[0], mag1(), lmaa(), 44, 64, &payload);
            (CORE, frame)
        })
    });
    let followers = (0..8).map(|id| {
        let payload = [
            17,
            0,
            0,
            id & 1,
            0,
            0,
            0,
            id / 2,
            0x0f,
            0xa0,
            0x13,
            0x89,
            0,
            8,
            0,
            0,
        ];
        let frame = ipv6(CN_MAC, PORT_MACS[1], cn(), mn(1), 44, 64, &payload);
        (EDGE, frame)
    });
    let frames: Vec<_> = cut.chain(pieces).chain(followers).collect();
    assert_eq!(heap_calls(&mut rig, &frames), 0);
    let counters = rig.counters();
    assert_eq!(counters.fragmented, counters.reassembled);
}

//! The door for Mobility Header packets: every packet is counted once, and answers have a rate.

use std::net::Ipv6Addr;

use arbitrary::Result;
use pmip_proto::{Now, Receiver, Reply};

use crate::choice::Choice;
use crate::message::{DESTINATION, SOURCE, mend};

const ANSWERS_PER_SECOND: u32 = 3;

const ADDRESSES: [Ipv6Addr; 5] = [
    SOURCE,
    DESTINATION,
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::LOCALHOST,
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
];

/// Receives packets of several senders.
pub fn run(data: &[u8]) {
    let mut receiver = Receiver::new(ANSWERS_PER_SECOND);
    let mut choice = Choice::new(data);
    let mut now = Now::default();
    let (mut packets, mut answers) = (0, 0);
    while packets < 32
        && let Ok(answered) = packet(&mut choice, &mut now, &mut receiver)
    {
        packets += 1;
        answers += u64::from(answered);
        let c = receiver.counters();
        let ends = [
            c.decoded,
            c.damaged,
            c.unknown_type,
            c.bad_header,
            c.malformed,
        ];
        assert_eq!(ends.iter().sum::<u64>(), packets, "{c:?}");
        assert_eq!(answers + c.suppressed, c.unknown_type + c.bad_header);
        let rate = u64::from(ANSWERS_PER_SECOND);
        let most = rate
            + now
                .monotonic
                .as_secs()
                .saturating_add(1)
                .saturating_mul(rate);
        assert!(answers <= most);
    }
}

/// One packet; whether it was answered.
fn packet(choice: &mut Choice<'_>, now: &mut Now, receiver: &mut Receiver) -> Result<bool> {
    let (from, to) = (choice.pick(&ADDRESSES)?, choice.pick(&ADDRESSES)?);
    now.monotonic += choice.time()?;
    let mended = choice.flag()?;
    let mut mh = choice.octets()?.to_vec();
    if mended {
        mend(&mut mh, from, to);
    }
    let Err(rejected) = receiver.receive(*now, from, to, &mh) else {
        return Ok(false);
    };
    match &rejected.reply {
        None => {}
        Some(Reply::BindingError {
            from: of, to: back, ..
        }) => assert_eq!((*of, *back), (to, from)),
        Some(Reply::ParameterProblem { pointer }) => {
            assert!(usize::try_from(*pointer).unwrap() < 40 + mh.len());
        }
    }
    if rejected.reply.is_some() {
        assert!(!from.is_multicast() && !from.is_unspecified() && !to.is_multicast());
    }
    Ok(rejected.reply.is_some())
}

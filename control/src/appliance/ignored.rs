//! Messages that were not acted on, by reason: what `show drops` says of the signalling.

use pmip_proto::lma::LmaCounters;
use pmip_proto::mag::MagCounters;
use pmip_proto::{Lma, Mag};

use super::control::Control;
use super::protection::ProtectionCounters;

/// A counter: its name, its value, what it means.
pub(super) type Ignored = (&'static str, u64, &'static str);

impl Control {
    /// Every reason, those that did not occur included.
    pub(super) fn ignored_messages(&self) -> Vec<Ignored> {
        let mut all = self.ignored_by_anyone().to_vec();
        all.extend(ignored_by_protection(self.protection.counters()));
        all.extend(self.ignored_heartbeats());
        all.extend(
            self.lma
                .as_deref()
                .into_iter()
                .map(Lma::counters)
                .flat_map(ignored_by_lma),
        );
        all.extend(
            self.mag
                .as_deref()
                .into_iter()
                .map(Mag::counters)
                .flat_map(ignored_by_mag),
        );
        all
    }

    fn ignored_heartbeats(&self) -> [Ignored; 2] {
        let mags = self.lma.as_deref().into_iter().flat_map(Lma::peers);
        let mags = mags.filter_map(|mag| mag.heartbeat);
        let lmas = self.mag.as_deref().into_iter().flat_map(Mag::peers);
        let lmas = lmas.map(|(_, heartbeat)| heartbeat);
        let (mut stray, mut suppressed) = (0, 0);
        for heartbeat in mags.chain(lmas) {
            stray += heartbeat.counters.stray;
            suppressed += heartbeat.counters.suppressed;
        }
        [
            (
                "heartbeat-stray",
                stray,
                "An answer to no request that waits for one: a copy, or a late one.",
            ),
            (
                "heartbeat-rate",
                suppressed,
                "Requests of a peer beyond the rate at which they are answered.",
            ),
        ]
    }

    fn ignored_by_anyone(&self) -> [Ignored; 14] {
        let received = self.receiver.counters();
        [
            (
                "damaged",
                received.damaged,
                "A wrong checksum, or shorter than it claims.",
            ),
            (
                "unknown-type",
                received.unknown_type,
                "An unknown Mobility Header type.",
            ),
            (
                "bad-header",
                received.bad_header,
                "A bad Payload Proto or Header Len.",
            ),
            (
                "malformed",
                received.malformed,
                "Options that make no sense.",
            ),
            (
                "not-answered",
                received.suppressed,
                "An error about a message that was not sent, because of its rate or its addressee.",
            ),
            (
                "extension-headers",
                self.oddities.extension_headers,
                "A Mobility Header or ESP behind other extension headers.",
            ),
            (
                "not-encoded",
                self.oddities.not_encoded,
                "A message of ours that is too long.",
            ),
            (
                "not-taken",
                self.oddities.not_taken,
                "A message that came while as much waited for the disk as may; its sender repeats it.",
            ),
            (
                "answer-copy",
                self.outbox.superseded(),
                "A PBA that was not sent, as another one about the session waited for the disk.",
            ),
            (
                "not-sent",
                self.outbox.lost(),
                "A message of ours that was not sent, as too many waited; it is repeated like one that is lost.",
            ),
            (
                "unknown-station",
                self.mobiles.unknown(),
                "A station on an access port is no mobile of ours.",
            ),
            (
                "neighbour-table",
                self.nd.refused(),
                "The neighbour table was full.",
            ),
            (
                "not-logged",
                self.log_rate.suppressed(),
                "An event that was not logged, because there were many.",
            ),
            (
                "neighbour-replaced",
                self.nd.replaced(),
                "A neighbour gave way to another: the table was full.",
            ),
        ]
    }
}

fn ignored_by_protection(counters: &ProtectionCounters) -> [Ignored; 9] {
    [
        (
            "unknown-peer",
            counters.unknown_peer,
            "Between addresses that are not configured as peers. Binding Updates are counted elsewhere.",
        ),
        (
            "unprotected",
            counters.unprotected,
            "A message in the clear, from the address of a peer with keys.",
        ),
        (
            "esp-unknown-sa",
            counters.unknown_sa,
            "ESP for which there is no security association.",
        ),
        (
            "esp-replayed",
            counters.replayed,
            "ESP that was received before, or is too old to tell.",
        ),
        (
            "esp-icv",
            counters.icv,
            "ESP that was altered, or sealed with another key.",
        ),
        (
            "esp-malformed",
            counters.malformed,
            "ESP that is too short, or badly padded.",
        ),
        (
            "esp-inner",
            counters.inner,
            "ESP with something else in it than a Mobility Header.",
        ),
        (
            "esp-dummy",
            counters.dummy,
            "ESP that its sender made to be thrown away.",
        ),
        (
            "not-sealed",
            counters.not_sealed,
            "A message of ours without a sequence number: change the keys, or make room on the disk.",
        ),
    ]
}

fn ignored_by_lma(lma: &LmaCounters) -> [Ignored; 17] {
    let refused = lma.pbas.iter().filter(|(status, _)| **status >= 128);
    [
        (
            "pbu-refused",
            refused.map(|(_, pbas)| pbas).sum(),
            "A PBA with a status of 128 or more was sent.",
        ),
        (
            "lma-over-share",
            lma.over_share,
            "A PBU of a MAG that has as many sessions as one may; refused with 130.",
        ),
        (
            "lma-overload",
            lma.overload,
            "A PBU of a new mobile, refused with 130, as there was too much to do.",
        ),
        (
            "lma-draining",
            lma.draining,
            "A PBU of a new mobile, refused with 130 or led to the next LMA of the pool, as this one drains.",
        ),
        (
            "lma-pool-dead",
            lma.members_passed_over,
            "An LMA of the pool that is not asked about a mobile, as it answers no heartbeats.",
        ),
        (
            "lma-pool-loop",
            lma.passed_on_before,
            "A PBU that is not passed on to the pool, as another passed it on, or with an Alternate Care-of Address.",
        ),
        (
            "lma-pool-stray",
            lma.stray_pool_answers,
            "A PBA of an LMA of the pool that answers nothing we wait for.",
        ),
        (
            "lma-unreported",
            lma.unreported,
            "A refusal that was not logged, because there were many.",
        ),
        (
            "lma-unknown-peer",
            lma.unknown_peer,
            "From a MAG that is not configured.",
        ),
        (
            "lma-not-proxy",
            lma.not_proxy,
            "A Binding Update without the P flag.",
        ),
        (
            "lma-care-of",
            lma.bad_care_of_address,
            "A care-of address that is none.",
        ),
        (
            "lma-deregistration",
            lma.ignored_deregistrations,
            "A de-registration of a session that is unknown, or at another MAG.",
        ),
        (
            "lma-revoking",
            lma.ignored_while_revoking,
            "A PBU for a binding that was being revoked; the MAG repeats it.",
        ),
        (
            "lma-stray-bra",
            lma.stray_bras,
            "A BRA that answers no BRI of ours.",
        ),
        (
            "lma-stray-upa",
            lma.stray_upas,
            "A UPA about another mobile than the UPN.",
        ),
        (
            "lma-destination",
            lma.wrong_destination,
            "To an address that is no LMAA.",
        ),
        (
            "lma-unexpected",
            lma.unexpected,
            "A message that an LMA does not receive.",
        ),
    ]
}

fn ignored_by_mag(mag: MagCounters) -> [Ignored; 12] {
    [
        (
            "mag-unknown-peer",
            mag.unknown_peer,
            "From an LMA that is not configured.",
        ),
        (
            "mag-stray-pba",
            mag.stray_pbas,
            "A PBA that answers no PBU of ours.",
        ),
        (
            "mag-redirect-refused",
            mag.redirects_refused,
            "A PBA that assigns an LMA which is not in `lma_pool`; the session is not served.",
        ),
        (
            "mag-redirect-ignored",
            mag.redirects_ignored,
            "A Redirect option that was not asked for.",
        ),
        (
            "mag-fmi-refused",
            mag.fmis_refused,
            "An FMI that could not be carried out.",
        ),
        (
            "mag-fmi-copy",
            mag.fmi_copies,
            "A copy of an FMI, answered as the first was.",
        ),
        (
            "mag-bri-refused",
            mag.bris_refused,
            "A BRI that could not be carried out.",
        ),
        (
            "mag-bri-copy",
            mag.bri_copies,
            "A copy of a BRI, answered as the first was.",
        ),
        (
            "mag-upn-refused",
            mag.reregistrations_refused,
            "A request to register a mobile again that is not attached.",
        ),
        (
            "mag-solicitation",
            mag.solicitations_unanswered,
            "A Router Solicitation of a mobile that asks too often.",
        ),
        (
            "mag-destination",
            mag.wrong_destination,
            "To an address that is no Proxy-CoA.",
        ),
        (
            "mag-unexpected",
            mag.unexpected,
            "A message that a MAG does not receive.",
        ),
    ]
}

//! What operators ask of bindings: to end, or to be registered again.

use flow::{ProxyCoa, Role};
use pmip_proto::Now;
use pmip_proto::lma::RevocationScope;

use super::calls::{bid, done, mn_id, rows};
use super::control::Control;
use crate::api::{Drain, Drained, Problem, Reregister, Revoke, Service};
use crate::server::Answer;

impl Control {
    pub(super) fn revoke(&mut self, now: Now, request: &Revoke) -> Answer {
        let mn = request.mn.as_deref().map(mn_id).transpose()?;
        let bid = request.bid.map(bid).transpose()?;
        let mag = request.mag.as_deref().map(|mag| self.mag_named(mag));
        let scope = match (mn, bid, mag.transpose()?) {
            (Some(mn), None, None) => RevocationScope::Mobile(mn),
            (Some(mn), Some(bid), None) => RevocationScope::Session(mn, bid),
            (Some(mn), None, Some(mag)) => RevocationScope::MobileAt(mn, mag),
            (None, None, Some(mag)) => RevocationScope::Peer(mag),
            (None, None, None) => return Err(Problem::bad_request("name a mobile (mn) or a MAG")),
            (None, Some(_), _) => {
                return Err(Problem::bad_request(
                    "bid: an access is a mobile's: name it (mn)",
                ));
            }
            (Some(_), Some(_), Some(_)) => {
                return Err(Problem::bad_request(
                    "bid: an access is at one MAG: leave one out",
                ));
            }
        };
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        let revoked = lma.revoke(now, &scope);
        let revoked = revoked.map_err(|error| Problem::refused(error.to_string()))?;
        Ok(done(format!("revoking {}", bindings(revoked))))
    }

    pub(super) fn set_service(&mut self, now: Now, request: &Service) -> Answer {
        let mn = mn_id(&request.mn)?;
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        let revoked = lma.set_service(now, &mn, request.on);
        let revoked = revoked.map_err(|error| Problem::refused(error.to_string()))?;
        Ok(done(if request.on {
            format!("{mn} is served")
        } else {
            format!(
                "{mn} is not served any more: revoking {}",
                bindings(revoked)
            )
        }))
    }

    pub(super) fn set_draining(&mut self, now: Now, request: Drain) -> Answer {
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        rows(&Drained {
            sessions: lma.set_draining(now, request.on),
            draining: request.on,
        })
    }

    pub(super) fn reregister(&mut self, now: Now, request: &Reregister) -> Answer {
        let mn = mn_id(&request.mn)?;
        let bid = request.bid.map(bid).transpose()?;
        let mag = request.mag.as_deref().map(|mag| self.mag_named(mag));
        let mag = mag.transpose()?;
        let lma = self.lma.as_mut().ok_or_else(not_an_lma)?;
        let asked = lma.reregister(now, &mn, bid, mag);
        let asked = asked.map_err(|error| Problem::refused(error.to_string()))?;
        let mags = if asked == 1 { "MAG" } else { "MAGs" };
        Ok(done(format!(
            "asking {asked} {mags} to register {mn} again"
        )))
    }

    /// A MAG by its name in the configuration, or by its address.
    fn mag_named(&self, name: &str) -> Result<ProxyCoa, Problem> {
        let peer = self.setup.peer_named(name);
        peer.filter(|peer| peer.role == Role::Lma)
            .map(|peer| ProxyCoa(peer.address))
            .ok_or_else(|| Problem::not_found(format!("no [[lma.peer]] is {name}")))
    }
}

fn not_an_lma() -> Problem {
    Problem::refused("this process is no LMA: bindings are revoked and renewed at the LMA")
}

fn bindings(count: usize) -> String {
    match count {
        1 => "1 binding".to_owned(),
        many => format!("{many} bindings"),
    }
}

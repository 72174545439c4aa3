//! Whom the LMA serves: profiles that change while it runs.

use flow::MnId;

use super::Lma;
use super::revocation::{RevocationError, RevocationScope};
use crate::time::Now;

impl Lma {
    /// Serves a mobile from now on, or no longer: then its bindings are revoked, and its PBUs refused with
    /// 152 (RFC 5213 §5.3.1). Returns how many bindings are revoked.
    ///
    /// # Errors
    /// [`RevocationError::TooMany`]; then nothing has changed.
    pub fn set_service(
        &mut self,
        now: Now,
        mn_id: &MnId,
        on: bool,
    ) -> Result<usize, RevocationError> {
        let revoked = if on { 0 } else { self.revoke_all(now, mn_id)? };
        let profile = self.config.profiles.entry(mn_id.clone());
        profile.or_default().enabled = on;
        self.service.insert(mn_id.clone(), on);
        Ok(revoked)
    }

    /// Forgets what is known about a mobile in advance. If only known mobiles are served, its bindings are
    /// revoked; returns how many. Its prefixes stay reserved.
    ///
    /// # Errors
    /// [`RevocationError::TooMany`]; then nothing has changed.
    pub fn remove_profile(&mut self, now: Now, mn_id: &MnId) -> Result<usize, RevocationError> {
        let served = self.config.serve_unknown;
        let revoked = if served {
            0
        } else {
            self.revoke_all(now, mn_id)?
        };
        self.config.profiles.remove(mn_id);
        self.service.remove(mn_id);
        Ok(revoked)
    }

    fn revoke_all(&mut self, now: Now, mn_id: &MnId) -> Result<usize, RevocationError> {
        match self.revoke(now, &RevocationScope::Mobile(mn_id.clone())) {
            Err(RevocationError::UnknownMobile(_) | RevocationError::NoBinding) => Ok(0),
            other => other,
        }
    }
}

//! Two people: whoever opened a job does not approve what it plans, unless the contract's author
//! allows so.
//!
//! Who that is stands in the job's opening record, as the address that the operator's account had
//! then. Nobody is kept out of a job whose opener is known by a name only.

use policy::contract::Apply;
use policy::{ReasonCode, Refusal};
use proof::approval::is_same_person;
use store::JobRow;

/// Who may not approve the plans of a job.
#[derive(Debug, Clone, Copy)]
pub struct Barred<'j> {
    /// The opener's address, where one is known.
    address: Option<&'j str>,
    /// The opener's name, which may be an address, too: another of the same person's.
    name: Option<&'j str>,
}

impl<'j> Barred<'j> {
    /// Whoever opened the job, or nobody.
    pub fn of(job: &'j JobRow, terms: &Apply) -> Self {
        let judged = !terms.opener_may_approve;
        Self {
            address: job.opened_by_email.as_deref().filter(|_| judged),
            name: judged.then_some(job.opened_by.as_str()),
        }
    }

    /// The address, where there is one.
    pub fn address(self) -> Option<&'j str> {
        self.address
    }

    /// Whether it is this person.
    pub fn is(self, email: &str) -> bool {
        let mut known = self.address.into_iter().chain(self.name);
        known.any(|barred| is_same_person(barred, email))
    }

    /// Lets an approval through that is by none of these addresses.
    ///
    /// # Errors
    /// `APPROVAL_OWN_JOB`.
    pub fn check<'a>(self, mut emails: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
        match emails.find(|email| self.is(email)) {
            None => Ok(()),
            Some(email) => {
                let detail = format!("{email} opened the job; somebody else has to approve");
                Err(Refusal::new(ReasonCode::ApprovalOwnJob, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_an_address_is_the_openers_too() {
        let barred = Barred {
            address: Some("ada.lovelace@corp.example"),
            name: Some("ada@corp.example"),
        };
        for own in ["Ada.Lovelace@corp.example", "ada+tfc@corp.example"] {
            assert!(barred.is(own), "{own}");
            assert!(barred.check([own].into_iter()).is_err());
        }
        for other in ["grace@corp.example", "ada@elsewhere.example", "ada"] {
            assert!(!barred.is(other), "{other}");
        }
        let by_a_name = Barred {
            address: None,
            name: Some("platform"),
        };
        assert!(!by_a_name.is("ada@corp.example"));
    }
}

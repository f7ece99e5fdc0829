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
pub struct Barred<'j>(Option<&'j str>);

impl<'j> Barred<'j> {
    /// Whoever opened the job, or nobody.
    pub fn of(job: &'j JobRow, terms: &Apply) -> Self {
        Self(match terms.opener_may_approve {
            true => None,
            false => job.opened_by_email.as_deref(),
        })
    }

    /// The address, where there is one.
    pub fn address(self) -> Option<&'j str> {
        self.0
    }

    /// Whether it is this person.
    pub fn is(self, email: &str) -> bool {
        self.0.is_some_and(|barred| is_same_person(barred, email))
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

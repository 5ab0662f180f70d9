//! Release policy: each agency decides what leaves it and what it takes; the region's baseline can only forbid more.
//! docs/POLICY.md is its page. Policies are written in Cedar, which nobody outside of this module sees.
//!
//! | module | what |
//! |---|---|
//! | [`vocabulary`] | the words of the label, and the schema |
//! | [`question`] | what is asked, and what a policy may know: cut out of the roster |
//! | [`set`] | the policies of one owner, read and checked |
//! | [`guard`] | what a text must stand before Cedar sees it |
//! | `spelling`, `contradiction`, `moments`, `scope` | what is wrong with a policy, in words; what it names |
//! | [`decide`] | three layers, one decision |
//! | [`baseline`] | the policies of the region, those that are leaving included |
//! | [`loosening`] | what a roster may take out of the baseline, and how long that still forbids |
//! | [`bundle`] | an agency's signed policies: whose, which version, after which |
//! | [`book`] | everything that is in force; decides, and remembers |
//! | [`cases`] | what its owner expects of a bundle, as files that people write |
//! | [`check`] | what a bundle must stand before it counts |
//! | [`sample`] | the policies of the sample region |
//! | [`view`] | what one agency can see of a decision |
//! | [`explain`] | why a packet would go, or not, to each unit |
//! | [`could`] | who could receive anything of a label |
//! | [`diff`] | who gains and who loses by a new text |
//! | [`replay`] | the past, decided again |
//! | [`template`] | a bundle to begin with |

pub mod baseline;
pub mod book;
pub mod bundle;
pub mod cases;
pub mod check;
mod contradiction;
pub mod could;
pub mod decide;
pub mod diff;
pub mod explain;
pub mod guard;
pub mod loosening;
mod memory;
mod moments;
pub mod question;
pub mod replay;
pub mod sample;
mod scope;
pub mod set;
mod space;
mod spelling;
pub mod template;
mod text;
pub mod view;
pub mod vocabulary;

pub use self::{
    baseline::Baseline,
    book::Policies,
    bundle::{Bundle, BundleError},
    cases::{Case, Cases, Expected, Outcome},
    decide::{Allowed, DecidedBy, Decision, Denial, Layers},
    question::{Question, Way},
    set::{Owner, PolicySet, Problem},
    vocabulary::{SCHEMA, schema_hash},
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

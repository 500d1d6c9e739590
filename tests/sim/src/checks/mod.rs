//! Whether what clients, lease holders and watchers were told fits what has really happened.
//!
//! Every reply carries a revision, and revisions order all writes. So no search is needed: each answer is compared
//! with the final history at the revision that it names, and the revisions with real time.

pub mod answers;
pub mod leases;
pub mod watches;

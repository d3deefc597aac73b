//! Queries as text: PREPARE, EXECUTE and DEALLOCATE get the names that all clients share, and what a policy forbids is
//! sent to fail.
//!
//! Source: `sql-prepare.html`, `sql-execute.html`, `sql-deallocate.html`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::executed::Way;
use super::names::{Step, take_back};
use super::provide::prepare_text;
use super::refuse::{full, too_many};
use super::renaming::{Renamed, hidden_where_ours, prepared_body, replaced};
use super::requests::{Requests, Verdict, query_message};
use super::turn::Own;
use super::watch::feature_name;
use crate::backend::{Full, Key, Origin, Statement, id_of};
use crate::config::{Policy, SessionFeatures};
use crate::pool::{feature_rejected, feature_warning, pin_refused};
use crate::sql::{Act, Arg, Feature, Name, Script};
use crate::wire::tag::front;
use crate::wire::view::{Status, cstr};
use crate::wire::write::Report;

/// What the statements of a Query do to the book of names.
#[derive(Default)]
struct Named {
    renamed: Renamed,
    steps: VecDeque<Step>,
    /// A name that is given although it is taken.
    taken: Option<Box<[u8]>>,
}

impl Requests<'_> {
    /// A whole Query.
    pub(super) fn query(&mut self, bytes: &[u8]) -> Verdict {
        let text = bytes.get(5..).unwrap_or_default();
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let script = self.reader.read(text);
        let names = script.acts.iter().any(names_statement);
        let clears = |act: &Act| matches!(act, Act::DeallocateAll | Act::DiscardAll);
        // What is still to be answered may be about names, and a Sync of ours must not end what PostgreSQL reads over.
        let unknown = self.names.any_uncertain() || self.turn.may_skip() || self.turn.may_leave_failure();
        if names && (unknown || (self.turn.owes_anything() && script.acts.iter().any(clears))) {
            return Verdict::Wait;
        }
        // What is closed for it does not begin a batch that could be skipped.
        self.within = self.turn.is_within_batch();
        // It ends the unnamed statement on the way (`protocol-flow.html`, "Simple Query").
        let ended = self.end_unnamed();
        if script.acts.is_empty() && script.sets == 0 {
            let Some(ended) = ended else { return Verdict::Forward };
            self.turn.query(VecDeque::from([ended]), None);
            return Verdict::Entered;
        }
        if let Some(report) = self.admit(&script, |_| None).or_else(|| self.admit_executed(&script)) {
            return self.refuse_query(&report);
        }
        if self.settings.max_prepared == 0 || !names {
            let Some(ended) = ended else { return Verdict::Forward };
            self.turn.query(VecDeque::from([ended]), None);
            return Verdict::Entered;
        }
        let mut named = Named::default();
        if let Err(report) = self.name(text, &script, &mut named) {
            for step in named.steps.into_iter().rev() {
                take_back(step, false, self.names, self.prepared);
            }
            return self.refuse_query(&report);
        }
        let Named { renamed, mut steps, taken } = named;
        steps.extend(ended);
        if renamed.is_empty() {
            self.turn.query(steps, None);
            return Verdict::Entered;
        }
        let (text, shifts) = replaced(text, renamed);
        query_message(self.out, &[&text]);
        self.turn.query(steps, shifts);
        if let Some(name) = taken.as_deref().or_else(|| executed(&script)) {
            self.turn.take_last(name);
        }
        Verdict::Replaced(bytes.len())
    }

    /// Gives the statements of a Query the names that they have on backends, and sees to it that they are there.
    fn name(&mut self, text: &[u8], script: &Script, named: &mut Named) -> Result<(), Report> {
        let Named { renamed, steps, taken } = named;
        for act in &script.acts {
            match act {
                Act::Prepare { name, types, statement } => {
                    if self.names.find(&name.text).is_some() {
                        taken.get_or_insert_with(|| name.text.clone());
                    }
                    let (to, step) = self.prepare_by_sql(name, &prepared_body(text, types, statement))?;
                    renamed.push((name.range.clone(), to));
                    steps.push_back(step);
                }
                Act::Execute(name) => {
                    let Some(found) = self.names.find(&name.text) else {
                        renamed.extend(hidden_where_ours(text, name));
                        continue;
                    };
                    let statement = self.current(found)?;
                    renamed.push((name.range.clone(), statement.name.clone()));
                    if !steps.iter().any(|step| prepares(step, statement.id)) {
                        self.ensure_named(&statement, Way::Query);
                        self.ensure_for_query(&statement);
                        let executed = self.note_executed(&statement, steps, Way::Query)?;
                        *taken = taken.take().or(executed);
                    }
                }
                Act::Deallocate(name) => {
                    match self.names.find(&name.text) {
                        Some(found) => renamed.push((name.range.clone(), found.name.clone())),
                        None => renamed.extend(hidden_where_ours(text, name)),
                    }
                    if let Some((known, statement)) = self.names.remove(&name.text) {
                        self.names.note_change(&known);
                        if !steps.iter().any(|step| prepares(step, statement.id)) {
                            self.ensure_something_for_query(&statement);
                        }
                        let had = self.prepared.remove(statement.id).is_some();
                        self.prepared.take_doomed(statement.id);
                        self.names.note_move(statement.id);
                        steps.push_back(Step::Deallocated(known, statement, had));
                    }
                }
                Act::DeallocateAll | Act::DiscardAll => steps.push_back(self.clear_names()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The unnamed statement ends with a Query; what to take back if the Query is skipped.
    fn end_unnamed(&mut self) -> Option<Step> {
        let (client, backend) = (self.names.unnamed.take(), self.prepared.unnamed.take());
        // What closed it before this Query may be taken back yet.
        if client.is_none() && backend.is_none() && !self.names.is_changing(b"") {
            return None;
        }
        self.names.note_change(b"");
        Some(Step::Unnamed((client, backend)))
    }

    /// PREPARE by a client: the name for it on backends, and what to take back if it fails.
    fn prepare_by_sql(&mut self, name: &Name, body: &[u8]) -> Result<(Box<[u8]>, Step), Report> {
        if let Some(taken) = self.names.find(&name.text).cloned() {
            // PostgreSQL is to say so.
            self.ensure_something_for_query(&taken);
            return Ok((taken.name.clone(), Step::Sent(0)));
        }
        let statement = self.intern_prepared(body)?;
        Ok((statement.name.clone(), self.name_prepared(&name.text, &statement)?))
    }

    /// The statement that a PREPARE is about; see [`Origin::Sql`].
    pub(super) fn intern_prepared(&self, body: &[u8]) -> Result<Arc<Statement>, Report> {
        let key = Key { origin: Origin::Sql, setting: self.reader.setting(body, true, self.record.id), body };
        self.intern(key, body.split(|&byte| byte == 0).nth(1).unwrap_or_default()).map_err(|Full| full())
    }

    /// A PREPARE of this statement is about to run under a name that is free.
    pub(super) fn name_prepared(&mut self, name: &[u8], statement: &Arc<Statement>) -> Result<Step, Report> {
        if !self.names.fits(name, statement, self.settings.max_client_statement_bytes) {
            return Err(too_many());
        }
        self.close(statement);
        self.names.note_change(name);
        self.names.insert(name.into(), Arc::clone(statement));
        self.prepared.insert(Arc::clone(statement));
        self.names.note_move(statement.id);
        Ok(Step::Named(name.into(), statement.id))
    }

    /// Sees to it that the backend has a statement when a Query arrives there. By itself where that can be: if it failed
    /// among the messages of an extended query, PostgreSQL would skip the Query.
    pub(super) fn ensure_for_query(&mut self, statement: &Arc<Statement>) {
        if self.prepared.uses(statement.id) || self.turn.status() == Status::Failed {
            return;
        }
        if self.within {
            return self.ensure(statement);
        }
        match statement.origin {
            Origin::Protocol => {
                self.ensure(statement);
                self.write_message(front::SYNC, &[]);
                self.turn.own(Own::Sync, None);
            }
            Origin::Sql => {
                // A Close cannot fail, so it may stand before a Query.
                self.make_room(statement);
                let undo = Some(Box::new(Step::Sent(statement.id)));
                self.run_query(&prepare_text(statement), undo);
            }
        }
    }

    /// The same where anything under the statement's name will do, since it is not run.
    pub(super) fn ensure_something_for_query(&mut self, statement: &Arc<Statement>) {
        if self.prepared.uses(statement.id) {
            return;
        }
        self.ensure_something(statement, 0);
        if !self.within {
            self.write_message(front::SYNC, &[]);
            self.turn.own(Own::Sync, None);
        }
    }

    /// An Execute, which may be of a statement that changes the book of names.
    pub(super) fn execute(&mut self, bytes: &[u8]) -> Verdict {
        // What earlier batches do to the names has to be known: it could not be taken back from behind this.
        let unknown = self.names.any_uncertain() || self.turn.is_clearing();
        if unknown && self.bound.runs(bytes) {
            return Verdict::Wait;
        }
        let Some(statement) = self.bound.take_runs(bytes) else { return Verdict::Forward };
        let statement = &*statement;
        let mut steps = VecDeque::new();
        let taken = match self.note_executed(statement, &mut steps, Way::Message) {
            Ok(taken) => taken,
            Err(report) => return self.refuse_execute(&report),
        };
        self.turn.execute(Some(Box::new(Step::Several(steps))));
        if let Some(name) = taken.as_deref().or_else(|| executed_by(statement)) {
            self.turn.take_last(name);
        }
        Verdict::Entered
    }

    pub(super) fn clear_names(&mut self) -> Step {
        self.turn.expect_clear();
        let before = self.names.take_all();
        let unnamed = self.prepared.unnamed;
        let had = std::mem::take(self.prepared);
        self.prepared.unnamed = unnamed;
        Step::Cleared(Box::new((before, had)))
    }

    pub(super) fn named_on_backends(&self, name: &Name) -> Option<Arc<Statement>> {
        let known = self.names.name_of(id_of(&name.text)?)?;
        self.names.find(known).cloned()
    }

    /// Why a policy forbids a script, if it does; warns where it only warns, if the script is about to run.
    pub(super) fn judge_features(&mut self, script: &Script, runs: bool) -> Option<Report> {
        let features = &self.settings.features;
        for act in &script.acts {
            let (policy, name) = match act {
                Act::Uses(feature) => (policy(features, *feature), feature_name(*feature)),
                Act::Listen(_) => (features.listen, "listen"),
                Act::SetConfig(Arg::Opaque) => (features.settings, "settings"),
                _ => continue,
            };
            match policy {
                Policy::Reject => return Some(feature_rejected(name)),
                Policy::Warn if runs => {
                    feature_warning(name).write_notice(self.notices);
                    tracing::warn!(client = self.record.id, feature = name, "session feature in a shared connection");
                }
                Policy::Pin | Policy::Warn | Policy::Allow => {}
            }
        }
        None
    }

    /// Sees to it that a pin can be had where one may be needed; answers the refusal where none is left.
    pub(super) fn reserve_pin(&mut self) -> Option<Report> {
        let features = self.settings.features;
        let watch = self.watch.as_mut()?;
        // What is let through or only warned of is not looked at again.
        watch.uses = watch.uses.iter().filter(|feature| policy(&features, *feature) == Policy::Pin).collect();
        if watch.lasting == Some("settings") && features.settings != Policy::Pin {
            watch.lasting = None;
        }
        let wanted = watch.pins()?;
        if self.pinned || watch.permit.is_some() {
            return None;
        }
        watch.permit = self.pool.try_pin(self.settings);
        if watch.permit.is_some() {
            return None;
        }
        *self.watch = None;
        Some(pin_refused(self.pool, self.record, wanted))
    }

    /// A Query or Parse begins that is too long to be looked at whole; it keeps the client's own name.
    pub(super) fn begin_long(&mut self, tag: u8, bytes: &[u8]) {
        let named = tag == front::PARSE && bytes.get(5) != Some(&0);
        if named && let Some((name, _)) = cstr(bytes.get(5..).unwrap_or_default()) {
            self.names.remove(name);
        } else {
            self.names.unnamed = None;
            self.prepared.unnamed = None;
        }
        if tag == front::PARSE {
            self.watch.get_or_insert_default().lasting = Some("long_statements");
        }
    }

    /// What a Query that is too long to be read whole may do is known when it has passed.
    pub(super) fn note_long(&mut self, script: &Script) {
        if script.acts.is_empty() && script.sets == 0 {
            return;
        }
        let report = self.admit(script, |_| None);
        let watch = self.watch.get_or_insert_default();
        if report.is_some() || script.acts.iter().any(names_statement) {
            watch.lasting = Some("long_statements");
        }
    }
}

/// Whether it has to do with the book of names.
pub(super) fn names_statement(act: &Act) -> bool {
    matches!(act, Act::Prepare { .. } | Act::Execute(_) | Act::Deallocate(_) | Act::DeallocateAll | Act::DiscardAll)
}

fn prepares(step: &Step, id: u64) -> bool {
    matches!(step, Step::Named(_, prepared) if *prepared == id)
}

/// The policy for a feature.
pub(super) fn policy(features: &SessionFeatures, feature: Feature) -> Policy {
    match feature {
        Feature::AdvisoryLock => features.advisory_locks,
        Feature::TempTable => features.temp_tables,
        Feature::HoldCursor => features.cursors,
        Feature::Listen => features.listen,
        Feature::Load => features.load,
    }
}

/// The client's name for what this executes, if errors can be about nothing else.
fn executed_by(statement: &Statement) -> Option<&[u8]> {
    let mut named = statement.named.get()?.iter();
    let own = statement.renamed_from.get()?;
    if named.any(|named| named.script.acts.iter().any(names_statement)) { None } else { executed(&own.script) }
}

/// The name of what a script executes, if it is one statement: errors are told by it, since a statement may have several.
fn executed(script: &Script) -> Option<&[u8]> {
    let mut names =
        script.acts.iter().filter_map(|act| if let Act::Execute(name) = act { Some(&*name.text) } else { None });
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

//! How a migration, or an import, stands between two runs: what was sent, what was said, who decides.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Undo;

/// What a record needs to go on after any interruption, besides its package and the record at the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transfer {
    /// The upload of its package at the target.
    pub upload: Option<String>,
    /// How many were begun and are of no use any more.
    pub uploads: u32,
    /// How many imports of it the target has let go of.
    pub anew: u32,
    /// What its package holds.
    pub extent: Extent,
    /// What the user said of the plan.
    pub consent: Consent,
    /// Who decides what becomes of the import at the target.
    pub last_word: LastWord,
    /// Which try it is.
    pub run: Run,
    /// Whether it is being undone.
    pub undo: Undo,
    /// What is planned for a user who is not kept waiting for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// A plan that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who; user name.
    pub by: String,
    /// The options that it is made with.
    pub options: Value,
    /// What comes then.
    pub then: Then,
}

/// What comes after a plan that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The plan waits for him.
    Confirm,
    /// It is executed: this plan alone, where it is named.
    Execute {
        /// Of that plan.
        plan_digest: Option<String>,
    },
}

/// How much is sent to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// What the target lacked when it was asked.
    #[default]
    Lacking,
    /// All: nothing may be left out any more.
    Whole,
}

/// What the user said of the plan that was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nothing yet.
    #[default]
    Open,
    /// Go on: with this plan alone, where it names one.
    Given {
        /// Of that plan.
        plan_digest: Option<String>,
    },
}

/// Who decides what becomes of an import at a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastWord {
    /// It waits there for what is decided here.
    #[default]
    Here,
    /// The target was told to write, or is just being told.
    There,
}

/// Which try of a record it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// Nothing of it was executed.
    #[default]
    First,
    /// It was executed: an import goes on without a word, a migration has its target try again.
    Again,
}

impl Transfer {
    /// Another package is to be sent.
    pub fn packed(self, extent: Extent) -> Self {
        Self { extent, ..self.upload_expired() }
    }

    /// Its upload is of no use any more: the next one is another.
    pub fn upload_expired(self) -> Self {
        Self { upload: None, uploads: self.uploads + 1, ..self }
    }

    /// The target has let go of the import: another one is made, which waits for what is decided here.
    pub fn let_go(self) -> Self {
        Self { anew: self.anew + 1, last_word: LastWord::Here, run: Run::First, ..self.upload_expired() }
    }

    /// Its plan is shown.
    pub fn shown(self) -> Self {
        Self { consent: Consent::Open, last_word: LastWord::Here, ..self }
    }

    /// The plan that was shown is confirmed.
    pub fn confirmed(self, plan_digest: Option<String>) -> Self {
        Self { consent: Consent::Given { plan_digest }, ..self }
    }

    /// The target is told to write: a cancel has to ask it from then on.
    pub fn handed_over(self) -> Self {
        Self { last_word: LastWord::There, ..self }
    }

    /// The record is tried again. What was confirmed and never handed over is shown again.
    pub fn tried_again(self, run: Run) -> Self {
        let consent = if self.last_word == LastWord::There { self.consent } else { Consent::Open };
        Self { consent, last_word: LastWord::Here, run, asked: None, ..self }
    }
}

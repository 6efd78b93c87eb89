-- 0001 initial: everything annotmixd keeps.
--
-- Conventions. Numbers (ids) are made by the program, per project where the key starts with project_id; they are never
-- used again, because tombstones and models refer to them. Times are milliseconds since 1970 UTC. Enumerations are small
-- integers named in src/store/*.h. `gone` rows are deleted ones whose children are still being purged. Tables that are
-- read by key only and whose rows are short are WITHOUT ROWID, so that a row costs one tree instead of two. Foreign keys
-- stand where rows are few; on labels they would cost three look-ups per row, and the one writer keeps them by
-- construction.

-- What the file knows of itself.
CREATE TABLE meta (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Projects with their counters, which every write job moves once.
CREATE TABLE projects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL CHECK (length(uid) = 32),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    title TEXT NOT NULL,
    settings TEXT NOT NULL,
    feature_dim INTEGER NOT NULL CHECK (feature_dim BETWEEN 0 AND 16384),
    n_classes INTEGER NOT NULL CHECK (n_classes BETWEEN 2 AND 1000),
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL DEFAULT 1,
    gone INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)),
    label_seq INTEGER NOT NULL DEFAULT 0 CHECK (label_seq >= 0),
    next_instance INTEGER NOT NULL DEFAULT 1,
    next_annotator INTEGER NOT NULL DEFAULT 1,
    next_run INTEGER NOT NULL DEFAULT 1,
    next_model INTEGER NOT NULL DEFAULT 1,
    n_instances INTEGER NOT NULL DEFAULT 0 CHECK (n_instances >= 0),
    n_annotators INTEGER NOT NULL DEFAULT 0 CHECK (n_annotators >= 0),
    n_labels INTEGER NOT NULL DEFAULT 0 CHECK (n_labels >= 0),
    n_skipped INTEGER NOT NULL DEFAULT 0 CHECK (n_skipped >= 0),
    n_gold INTEGER NOT NULL DEFAULT 0 CHECK (n_gold >= 0),
    n_awaiting INTEGER NOT NULL DEFAULT 0 CHECK (n_awaiting >= 0),
    active_model INTEGER CHECK (active_model >= 1),
    last_claim INTEGER NOT NULL DEFAULT 0
) STRICT;
-- A project by its name; a deleted one has left its name to others.
CREATE UNIQUE INDEX projects_by_name ON projects (name) WHERE gone = 0;
-- What projects_purge_step has to do.
CREATE INDEX projects_gone ON projects (id) WHERE gone = 1;

-- Class names in order; a label holds the position. Never removed, only retired.
CREATE TABLE classes (
    project_id INTEGER NOT NULL REFERENCES projects (id),
    position INTEGER NOT NULL CHECK (position BETWEEN 0 AND 999),
    name TEXT NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1)),
    PRIMARY KEY (project_id, position)
) STRICT, WITHOUT ROWID;
-- No class twice.
CREATE UNIQUE INDEX classes_by_name ON classes (project_id, name);

-- Instances lie in order of their name: that is how labels arrive (by name) and how training reads them.
CREATE TABLE instances (
    project_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    id INTEGER NOT NULL,
    split INTEGER NOT NULL CHECK (split BETWEEN 0 AND 2),
    awaiting INTEGER NOT NULL CHECK (awaiting IN (0, 1)),
    labelled INTEGER NOT NULL CHECK (labelled IN (0, 1)),
    gold INTEGER CHECK (gold BETWEEN 0 AND 999),
    gold_seq INTEGER,
    gold_at INTEGER,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, name)
) STRICT, WITHOUT ROWID;
-- An instance by its number, and pages of the list.
CREATE UNIQUE INDEX instances_by_id ON instances (project_id, id);
-- Pages of ?split=valid|test, which are few; train is the rest and read in order of the list.
CREATE INDEX instances_held ON instances (project_id, split, id) WHERE split <> 0;
-- Pages of ?unlabelled=true.
CREATE INDEX instances_unlabelled ON instances (project_id, id) WHERE labelled = 0;
-- Pages of gold labels and of ?has_gold=true.
CREATE INDEX instances_gold ON instances (project_id, id) WHERE gold IS NOT NULL;
-- Pages of ?awaiting_features=true. In a project without features nothing ever waits.
CREATE INDEX instances_awaiting ON instances (project_id, id) WHERE awaiting = 1;

-- Feature vectors, float32 little-endian, apart from instances so that lists and counts never read them.
CREATE TABLE features (
    project_id INTEGER NOT NULL,
    instance_id INTEGER NOT NULL,
    vector BLOB NOT NULL CHECK (length(vector) BETWEEN 4 AND 65536 AND length(vector) % 4 = 0),
    PRIMARY KEY (project_id, instance_id)
) STRICT, WITHOUT ROWID;

-- Metadata: JSON text as the caller gave it.
CREATE TABLE instance_metadata (
    project_id INTEGER NOT NULL,
    instance_id INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (project_id, instance_id)
) STRICT, WITHOUT ROWID;

-- Names of deleted instances that tombstones refer to.
CREATE TABLE departed_instances (
    project_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;

-- Annotators with their counters. gone = 1: deleted, its labels do not count any more and are being erased; 2: they are
-- erased, and the row only keeps the name that tombstones refer to.
CREATE TABLE annotators (
    project_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    gone INTEGER NOT NULL DEFAULT 0 CHECK (gone BETWEEN 0 AND 2),
    n_labels INTEGER NOT NULL DEFAULT 0 CHECK (n_labels >= 0),
    n_skipped INTEGER NOT NULL DEFAULT 0 CHECK (n_skipped >= 0),
    gold_right INTEGER NOT NULL DEFAULT 0 CHECK (gold_right >= 0),
    gold_of INTEGER NOT NULL DEFAULT 0 CHECK (gold_of >= gold_right),
    first_label_at INTEGER,
    last_label_at INTEGER,
    PRIMARY KEY (project_id, id)
) STRICT, WITHOUT ROWID;
-- An annotator by its name.
CREATE UNIQUE INDEX annotators_by_name ON annotators (project_id, name) WHERE gone = 0;
-- What annotators_purge_step has to do.
CREATE INDEX annotators_gone ON annotators (project_id, id) WHERE gone = 1;

-- Labels. state: 0 current, 1 superseded, 2 tombstone. class NULL: skipped, or a tombstone.
CREATE TABLE labels (
    project_id INTEGER NOT NULL,
    seq INTEGER NOT NULL CHECK (seq >= 1),
    instance_id INTEGER NOT NULL,
    annotator_id INTEGER NOT NULL,
    class INTEGER CHECK (class BETWEEN 0 AND 999),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    given_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    duration_ms INTEGER CHECK (duration_ms >= 0),
    ref TEXT,
    PRIMARY KEY (project_id, seq)
) STRICT, WITHOUT ROWID;
-- One current label per pair; labels of an instance; votes and training.
CREATE UNIQUE INDEX labels_pair ON labels (project_id, instance_id, annotator_id) WHERE state = 0;
-- History and tombstones of an instance or pair.
CREATE INDEX labels_past ON labels (project_id, instance_id, seq) WHERE state <> 0;
-- Labels of an annotator in order of seq; erasing a deleted annotator.
CREATE INDEX labels_by_annotator ON labels (project_id, annotator_id, seq);
-- ?ref=; that no two current labels have one ref is the writer's care (it looks before it writes). One index instead of
-- two, because every index is paid for by every label.
CREATE INDEX labels_ref ON labels (project_id, ref, seq) WHERE ref IS NOT NULL;

-- Training runs. state: 0 queued, 1 running, 2 succeeded, 3 failed, 4 cancelled.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL REFERENCES projects (id),
    number INTEGER NOT NULL CHECK (number >= 1),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4),
    method TEXT NOT NULL,
    seed INTEGER NOT NULL CHECK (seed >= 0),
    ensemble INTEGER NOT NULL CHECK (ensemble >= 1),
    folds INTEGER NOT NULL CHECK (folds >= 0),
    gold_use TEXT NOT NULL,
    activate TEXT NOT NULL,
    settings TEXT NOT NULL,
    by_rule INTEGER NOT NULL CHECK (by_rule IN (0, 1)),
    queued_at INTEGER NOT NULL,
    queued_seq INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    claimed_by TEXT,
    lease_until INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    label_seq INTEGER,
    labels_used INTEGER,
    instances_used INTEGER,
    model_number INTEGER,
    activated INTEGER CHECK (activated IN (0, 1)),
    metrics TEXT,
    loss_curve TEXT,
    error TEXT
) STRICT;
-- A run by its number in the project; pages, newest first.
CREATE UNIQUE INDEX runs_by_number ON runs (project_id, number);
-- The queue: runs_claim, runs_find_equal, runs_counts.
CREATE INDEX runs_open ON runs (state, project_id) WHERE state <= 1;
-- How many runs ended how, so that nobody counts rows; one row per state.
CREATE TABLE run_totals (
    state INTEGER PRIMARY KEY CHECK (state BETWEEN 2 AND 4),
    n INTEGER NOT NULL CHECK (n >= 0)
) STRICT;
INSERT INTO run_totals (state, n) VALUES (2, 0), (3, 0), (4, 0);

-- Models. ready: 0 being written, 1 to be used, 2 deleted and being erased; only 1 is seen by anybody.
CREATE TABLE models (
    project_id INTEGER NOT NULL REFERENCES projects (id),
    number INTEGER NOT NULL CHECK (number >= 1),
    ready INTEGER NOT NULL DEFAULT 0 CHECK (ready BETWEEN 0 AND 2),
    pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    run_number INTEGER,
    method TEXT NOT NULL,
    settings TEXT NOT NULL,
    seed INTEGER NOT NULL,
    ensemble INTEGER NOT NULL,
    label_seq INTEGER NOT NULL,
    labels_used INTEGER NOT NULL,
    instances_used INTEGER,
    data_hash TEXT,
    build TEXT,
    kernel TEXT,
    blas TEXT,
    created_at INTEGER NOT NULL,
    metrics TEXT NOT NULL DEFAULT '{}',
    n_chunks INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    sha256 BLOB CHECK (length(sha256) = 32),
    n_classes INTEGER NOT NULL DEFAULT 0,
    population_reliability REAL,
    PRIMARY KEY (project_id, number)
) STRICT, WITHOUT ROWID;
-- What models_recover and models_purge_step have to do.
CREATE INDEX models_unready ON models (ready, project_id, number) WHERE ready <> 1;

-- The bytes of the model file in pieces.
CREATE TABLE model_chunks (
    project_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    chunk INTEGER NOT NULL CHECK (chunk >= 0),
    bytes BLOB NOT NULL CHECK (length(bytes) BETWEEN 1 AND 4194304),
    PRIMARY KEY (project_id, number, chunk)
) STRICT, WITHOUT ROWID;

-- What a model says of each annotator it was trained on; float32 little-endian BLOBs. Pages by annotator.
CREATE TABLE model_annotators (
    project_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    annotator_id INTEGER NOT NULL,
    labels INTEGER NOT NULL CHECK (labels >= 0),
    reliability REAL,
    class_reliability BLOB,
    class_evidence BLOB,
    confusion BLOB,
    PRIMARY KEY (project_id, number, annotator_id)
) STRICT, WITHOUT ROWID;

-- Access tokens: hash and a few characters for people, never the token.
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    scopes INTEGER NOT NULL CHECK (scopes >= 0),
    project TEXT NOT NULL,
    annotator TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

-- First answers to Idempotency-Keys, kept 24 h. token_id 0: no token; project_id 0: outside projects.
CREATE TABLE idempotency (
    token_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    status INTEGER NOT NULL CHECK (status BETWEEN 100 AND 599),
    media_type TEXT,
    location TEXT,
    etag TEXT,
    body BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (token_id, project_id, key)
) STRICT, WITHOUT ROWID;
-- What has grown old.
CREATE INDEX idempotency_by_age ON idempotency (created_at);

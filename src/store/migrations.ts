/**
 * The schemas of the two databases, as the steps that made them: step n brings user_version n - 1 to
 * n. A step that was released is never edited; docs/spec/store.md says what the columns mean.
 */

/** index.db: what can be found again by reading the files. */
export const indexMigrations: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

  CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    root BLOB NOT NULL UNIQUE,
    sha256 BLOB,
    size INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    indexed INTEGER NOT NULL DEFAULT 0,
    records BLOB NOT NULL
  );
  CREATE INDEX content_sha256 ON content (sha256) WHERE sha256 IS NOT NULL;

  CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    place TEXT NOT NULL UNIQUE,
    content INTEGER NOT NULL REFERENCES content,
    mtime_ns INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    changed INTEGER NOT NULL DEFAULT 0,
    damaged BLOB
  );
  CREATE INDEX file_content ON file (content);

  CREATE TABLE chunk (
    digest BLOB NOT NULL,
    content INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (digest, content, position)
  ) WITHOUT ROWID;

  CREATE TABLE partial (
    place TEXT PRIMARY KEY,
    content INTEGER NOT NULL REFERENCES content,
    folder TEXT NOT NULL,
    part TEXT NOT NULL,
    ino INTEGER NOT NULL,
    held BLOB NOT NULL,
    durable BLOB NOT NULL,
    boot TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX partial_content ON partial (content);
  `,
]

/** state.db: what nothing else knows. */
export const stateMigrations: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

  CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    manifest BLOB NOT NULL UNIQUE,
    name TEXT UNIQUE,
    origin TEXT NOT NULL CHECK (origin IN ('seeded', 'pulled')),
    folder TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    seeding INTEGER NOT NULL,
    added_ms INTEGER NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0,
    block BLOB NOT NULL
  );

  CREATE TABLE model_file (
    model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE,
    path TEXT NOT NULL,
    place TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (model, path)
  ) WITHOUT ROWID;
  CREATE INDEX model_file_root ON model_file (root);
  CREATE INDEX model_file_place ON model_file (place);

  CREATE TABLE pending (id TEXT PRIMARY KEY, request TEXT NOT NULL) WITHOUT ROWID;
  `,
  // Names of models that need not be held: what a hub's gateway answers to.
  `
  CREATE TABLE name (
    name TEXT PRIMARY KEY COLLATE NOCASE,
    manifest BLOB NOT NULL,
    link TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX model_name ON model (name COLLATE NOCASE);
  `,
  // Files that were fetched for readers of the gateway, and may go again.
  `
  CREATE TABLE cached (place TEXT PRIMARY KEY, read_ms INTEGER NOT NULL) WITHOUT ROWID;
  `,
  // What a hub says of a model that was imported from it, beside the manifest.
  `
  CREATE TABLE origin (
    manifest BLOB PRIMARY KEY REFERENCES model (manifest) ON DELETE CASCADE,
    hub TEXT NOT NULL,
    type TEXT NOT NULL,
    repo TEXT NOT NULL,
    revision TEXT NOT NULL,
    upstream TEXT NOT NULL,
    whole INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    facts TEXT NOT NULL
  );
  CREATE INDEX origin_repo ON origin (hub, type, repo);
  `,
]

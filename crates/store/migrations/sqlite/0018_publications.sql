-- Links by which outsiders read one sealed job. Only the hash of a link is kept; a link that was
-- withdrawn or has expired stays here, so that it is known who gave what away, and until when.

CREATE TABLE publications (
    publication  INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    link_hash    BLOB NOT NULL UNIQUE CHECK (length(link_hash) = 32),
    job          INTEGER NOT NULL REFERENCES jobs,
    published_by TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    withdrawn_by TEXT,
    withdrawn_at INTEGER,
    CHECK ((withdrawn_by IS NULL) = (withdrawn_at IS NULL))
) STRICT;
CREATE INDEX publications_of_job ON publications (job, publication);

-- 0004 features: one integer as the key of a feature vector, project * 2^32 + instance.
--
-- In a WITHOUT ROWID table SQLite keeps at most a quarter of a page of a row beside its neighbours and puts the rest on
-- pages of their own: 384 numbers took 4.6 kB. By an integer key a row may fill a page, and two of these share one.

CREATE TABLE vectors (
    key INTEGER PRIMARY KEY NOT NULL,
    vector BLOB NOT NULL CHECK (length(vector) BETWEEN 4 AND 65536 AND length(vector) % 4 = 0)
) STRICT;
INSERT INTO vectors (key, vector)
    SELECT (project_id << 32) | instance_id, vector FROM features ORDER BY project_id, instance_id;
DROP TABLE features;
ALTER TABLE vectors RENAME TO features;

-- 0003 annotator labels: the labels of an annotator in order of seq, as a table of its own instead of an index.
--
-- An index is written row by row with its table, so a batch in order of instances jumped to another page of it with
-- each label. A table can wait for the end of the job and then take the job's rows in its own order, all of an
-- annotator's together. Every label (whatever its state) has one row here.

CREATE TABLE annotator_labels (
    project_id INTEGER NOT NULL,
    annotator_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (project_id, annotator_id, seq)
) STRICT, WITHOUT ROWID;
-- In the order of the old index: nothing is sorted, every page is written once.
INSERT INTO annotator_labels (project_id, annotator_id, seq)
    SELECT project_id, annotator_id, seq FROM labels INDEXED BY labels_by_annotator
    ORDER BY project_id, annotator_id, seq;
DROP INDEX labels_by_annotator;

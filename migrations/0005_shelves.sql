-- 0005 shelves: the labels of an annotator in shelves of 65,536 labels of the project: shelf = (seq >> 16) << 32 |
-- annotator.
--
-- In order of annotator and seq every annotator's newest labels had a page of their own, and a batch of labels of 500
-- annotators wrote 500 pages. On a shelf all annotators' newest labels stand side by side, on a few pages. Who reads
-- one annotator's labels goes from shelf to shelf.

CREATE TABLE shelved_labels (
    project_id INTEGER NOT NULL,
    shelf INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (project_id, shelf, seq)
) STRICT, WITHOUT ROWID;
-- Every label (whatever its state) has one row. In the order of labels: the few pages of a shelf are written together.
INSERT INTO shelved_labels (project_id, shelf, seq)
    SELECT project_id, (seq >> 16) << 32 | annotator_id, seq FROM labels ORDER BY project_id, seq;
DROP TABLE annotator_labels;
ALTER TABLE shelved_labels RENAME TO annotator_labels;

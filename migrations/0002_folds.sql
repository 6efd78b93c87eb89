-- 0002 folds: what a model trained with folds says of each annotator with the instance's own labels left out, how many
-- folds a model has, and which instances were ever trained on.
--
-- Models made before have no folds: their new figures are NULL and stay so.

-- Mean p_perf over all train instances; mean posterior of the class it gave, its own label left out; share of its labels
-- that are the consensus of the others' labels. NULL: the model has no folds (or there is nothing to compare with).
ALTER TABLE model_annotators ADD COLUMN reliability_all REAL;
ALTER TABLE model_annotators ADD COLUMN expected_correct REAL;
ALTER TABLE model_annotators ADD COLUMN agreement_with_others REAL;

-- 0, or 2 to 20.
ALTER TABLE models ADD COLUMN folds INTEGER NOT NULL DEFAULT 0 CHECK (folds BETWEEN 0 AND 20);

-- 1: it is of split valid or test now and was of train before, so a model may have seen its labels. (Models made before
-- this column have no folds, so nothing is lost by starting at 0.)
ALTER TABLE instances ADD COLUMN was_train INTEGER NOT NULL DEFAULT 0 CHECK (was_train IN (0, 1));

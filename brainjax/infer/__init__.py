"""Raw scans to answers, through the recipe that the run learnt from."""

from brainjax.infer.embed import embed
from brainjax.infer.evaluation import evaluate_run, show_evaluation
from brainjax.infer.predict import predict

__all__ = ["embed", "evaluate_run", "predict", "show_evaluation"]

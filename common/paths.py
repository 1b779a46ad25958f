"""Where data lives, and what its files and folders are called."""

from pathlib import Path

REPOSITORY_DIR = Path(__file__).resolve().parent.parent
DATA_DIR_VARIABLE = "DEEPFAKE_DATA_DIR"
FRAMES_RECORD = "frames.json"
FACES_RECORD = "faces.json"
MARKS_RECORD = "marked_faces.json"
SPLIT_TABLE = "split.csv"
SPLIT_RECORD = "split.json"
METADATA = "metadata.json"
BEST_MODEL = "best_model.h5"
TEST_PREDICTIONS = "cnn_preds_values.json"
VAL_PREDICTIONS = "val_preds_values.json"
FAILED_TABLE = "failed.csv"
VERDICTS_TABLE = "video_preds.csv"
PEOPLE_TABLE = "people_preds.csv"
VERDICTS_TEXT = "mapreduce_res.txt"
KAGGLE_TABLE = "submission.csv"
METRICS_RECORD = "metrics.json"
FACES_CONFUSION = "Confusion.png"
VIDEOS_CONFUSION = "ConfusionVideo.png"
EXPLAINED_DIR = "explained"  # beside faces/, in the folder of a video
EXPLAINED_RECORD = "explained.json"
ROBUSTNESS_TABLE = "robustness.csv"
ROBUSTNESS_PLOT = "Robustness.png"
ROBUSTNESS_SCORES = "robustness_scores.json"
REPORT = "report.html"
DEFAULT_NAMES = {  # option of a script -> name below the data root
    "videos_dir": "train_sample_videos",
    "prepared_dir": "prepared_dataset",
    "split_dir": "split_dataset",
    "checkpoint_dir": "tmp_checkpoint",
    "predictions": TEST_PREDICTIONS,
    "output_dir": ".",
}
PLOTS = ("Loss.png", "Accuracy.png", FACES_CONFUSION, VIDEOS_CONFUSION, ROBUSTNESS_PLOT)
OUTPUT_NAMES = ("prepared_dataset", "split_dataset", "tmp_checkpoint", "detect", *PLOTS)

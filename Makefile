# `make` lists the targets. Everything runs in .venv, made once and again when requirements.txt changes.
.DEFAULT_GOAL := help
.PHONY: help demo test test-browser test-cluster train detect bench clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := .venv/.ready
BROWSER_READY := .venv/.browser-ready
export CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
DEMO_ACTORS := 400
DEMO_SEED := 2020
# In the same time, 4 frames each of more people teach more than 11 of fewer.
DEMO_TRAINING := --weights base --self-blend 0.5 --epochs 2 --keep last --learning-rate 1e-3 --train-frames 4
DEMO_CORRUPTED_VIDEOS := 24

# A path may hold spaces, quotes and $(...): it reaches the scripts through the environment, never through this file's text.
override VIDEOS := $(value VIDEOS)
override SPLIT_OPTIONS := $(value SPLIT_OPTIONS)
export VIDEOS SPLIT_OPTIONS
# SPLIT_OPTIONS as the arguments $$@: cut at spaces, quotes hold together, and nothing in it is expanded or run.
split_options = options=$$(.venv/bin/python -c 'import os, shlex; print(shlex.join(shlex.split(os.environ["SPLIT_OPTIONS"])))' 2>/dev/null) \
	|| { echo 'SPLIT_OPTIONS: a quote is not closed' >&2; exit 2; }; eval "set -- $$options"
need_videos = @test -n "$$VIDEOS" || { echo 'name a folder (detect: or a file): make $@ VIDEOS="/path/to/videos"' >&2; exit 2; }
# Status 1 says that some inputs failed and the rest is fine: go on. 2 says that the step could not run: stop.
define start
run() { echo "> $$*" >&2; .venv/bin/python "$$@" || [ $$? -eq 1 ]; }; set -e
endef

help:
	@echo 'make demo                 set up, make the sample videos, run the whole pipeline on them (demo/)'
	@echo 'make test                 check the style, run every test'
	@echo 'make test-browser         look at the report in a headless Chromium (CHROMIUM=PATH if it is not found)'
	@echo 'make test-cluster         run the pipeline on a real Slurm and a real Spark cluster on this machine (apt-get installs Slurm)'
	@echo 'make train VIDEOS=DIR     train on your own labelled videos (DIR/metadata.json says REAL or FAKE);'
	@echo '                          SPLIT_OPTIONS="--test-list FILE" and the like are passed on to 02_prepare_dataset.py'
	@echo 'make detect VIDEOS=PATH   judge a video, a photo, or a folder of them'
	@echo 'make bench                measure speed and memory against what one would run instead (well over an hour, 15 GB in .bench/)'
	@echo 'make clean                remove the demo and .venv; your videos and what was made from them stay'

$(READY): requirements.txt
	@test -n '$(PYTHON)' || { echo 'Python 3.11 is needed' >&2; exit 2; }
	@echo 'setting up .venv (1 to 3 minutes, 3 GB) ...'
	@'$(PYTHON)' -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed, this is " + sys.version)'
	@'$(PYTHON)' -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)

demo: $(READY)
	@$(start); export DEEPFAKE_DATA_DIR="$$PWD/demo"; \
	run tools/make_sample_videos.py --out demo/train_sample_videos --actors $(DEMO_ACTORS) --seed $(DEMO_SEED); \
	run 00_convert_video_to_image.py; \
	run 01a_crop_faces_mtcnn.py; \
	run 01b_mark_landmarks.py; \
	run 02_prepare_dataset.py; \
	run 03_train_cnn.py $(DEMO_TRAINING); \
	run 03b_explain.py; \
	run 03c_robustness.py --limit $(DEMO_CORRUPTED_VIDEOS); \
	run 04_mapreduce_video_preds.py; \
	run 05_report.py; \
	echo; cat demo/mapreduce_res.txt; echo; echo "Open this page to see the faces: demo/report.html"

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

$(BROWSER_READY): $(READY) requirements-browser.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-browser.txt
	@touch $(BROWSER_READY)

test-browser: $(BROWSER_READY)
	@test -n "$$CHROMIUM" || { echo 'Chromium is needed (apt-get install chromium); or name one: make $@ CHROMIUM=/path' >&2; exit 2; }
	.venv/bin/python -m pytest -m browser tests/browser

test-cluster: $(READY)
	@bash tests/cluster/install_slurm.sh
	.venv/bin/python -m pytest -m cluster tests/cluster

train: $(READY)
	$(need_videos)
	@$(start); $(split_options); \
	run 00_convert_video_to_image.py --videos-dir "$$VIDEOS"; \
	run 01a_crop_faces_mtcnn.py --videos-dir "$$VIDEOS"; \
	run 02_prepare_dataset.py --videos-dir "$$VIDEOS" "$$@"; \
	run 03_train_cnn.py; \
	run 03b_explain.py --videos-dir "$$VIDEOS"; \
	run 04_mapreduce_video_preds.py; \
	run 05_report.py --videos-dir "$$VIDEOS"; \
	echo "Open this page to see the faces: $${DEEPFAKE_DATA_DIR:-.}/report.html"

detect: $(READY)
	$(need_videos)
	@$(start); run detect.py "$$VIDEOS"

# One after the other: each measures alone. The demo gives the faces; facenet-pytorch has to have a virtual environment of its own.
bench: demo
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	@set -e; run() { echo "> benchmarks/$$*" >&2; .venv/bin/python benchmarks/"$$@"; echo; }; \
	run frames.py --work-dir .bench; \
	run faces.py --work-dir .bench $(if $(FACENET_PYTHON),--facenet-python '$(FACENET_PYTHON)'); \
	run pipeline.py --work-dir .bench; \
	run unseen.py --work-dir .bench; \
	run training_input.py --data-dir demo; \
	run self_blend.py --data-dir demo; \
	run prediction.py --data-dir demo; \
	run verdicts.py --work-dir .bench; \
	run growth.py --work-dir .bench

clean:
	rm -rf demo .bench .venv .pytest_cache .ruff_cache

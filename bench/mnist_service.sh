#!/usr/bin/env bash
# From MNIST to a running service: the two networks that this project began with are trained,
# saved, evaluated, asked from the command line, and served.
#
#   pip install 'fastmlp[datasets,safetensors,serve]'
#   bench/mnist_service.sh [FOLDER]
#
# Writes into FOLDER (by default mnist-service). EPOCHS (by default 10, and 20 for the second), PORT
# (8000) and BACKEND (auto) may be set. The data are downloaded once, unless $FASTMLP_DATA names a
# folder that holds them. Needs curl.
set -euo pipefail

mkdir -p "${1:-mnist-service}"
cd "${1:-mnist-service}"
port="${PORT:-8000}"
backend="${BACKEND:-auto}"
service="http://127.0.0.1:$port"

# 1. Train. The file holds the network, its labels, and how it was trained.
fastmlp train --data mnist --layers 128 64 --hidden-activation relu --loss cross_entropy \
    --optimizer sgd --learning-rate 0.01 --batch-size 64 --epochs "${EPOCHS:-10}" \
    --backend "$backend" --quiet --save first.safetensors
fastmlp train --data mnist --layers 16 16 --hidden-activation sigmoid \
    --output-activation softmax --loss mse \
    --optimizer sgd --learning-rate 3 --batch-size 32 --epochs "${EPOCHS:-20}" \
    --backend "$backend" --quiet --save second.safetensors
fastmlp show first.safetensors

# 2. Rows to ask about: the test images, their pixels from 0 to 1, as `fastmlp train` saw them.
# As JSON the first two, in the form that the service takes.
python - <<'PYTHON'
import json

import numpy as np

from fastmlp.datasets import load_mnist

_, (X, y) = load_mnist()
np.savez("test.npz", X=X, y=y)
with open("rows.json", "w") as file:
    json.dump({"rows": X[:2].round(4).tolist()}, file)
PYTHON

# 3. Evaluate and predict.
for model in first second; do
    fastmlp evaluate "$model.safetensors" test.npz --backend "$backend" --quiet
    fastmlp predict "$model.safetensors" test.npz --backend "$backend" --quiet --out "$model.csv"
    head -n 3 "$model.csv"
done

# 4. Serve both, and wait until the service says that it is well.
fastmlp serve first.safetensors second.safetensors --port "$port" --backend "$backend" &
serving=$!
trap 'kill "$serving" 2>/dev/null || true' EXIT
curl --silent --fail --retry 100 --retry-delay 1 --retry-connrefused "$service/health"
echo

# 5. Ask. /predict is of the first model; the others have their names. A person may draw a digit
# at $service/.
ask() {
    curl --silent --show-error --fail --header "Content-Type: application/json" \
        --data @rows.json "$service$1"
    echo
}
ask /predict
ask /models/second/predict
curl --silent --show-error --fail "$service/metrics" | grep fastmlp_rows_total

# 6. End: what is being answered is finished first.
kill -TERM "$serving"
trap - EXIT
wait "$serving"

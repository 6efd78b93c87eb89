#!/bin/sh
# Makes the Python environment of the contract tests, once for each state of requirements.txt.
#   venv.sh PYTHON FOLDER
set -eu
python=$1 folder=$2
here=$(dirname "$0")
if cmp -s "$here/requirements.txt" "$folder/requirements.txt"; then
    exit 0
fi
rm -rf "$folder"
"$python" -m venv "$folder"
PIP_ROOT_USER_ACTION=ignore "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/requirements.txt" "$folder/requirements.txt"

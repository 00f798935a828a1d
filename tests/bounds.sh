# The tests of kernels with checked indices, which they do not have in service, compiled into a cache of their own.
# Meanwhile the kernels of all the other tests are compiled, once: side by side every process would do it for itself.
set -u
python=$1

{ "$python" -m streamrnn check config/numbers.yaml && "$python" -m streamrnn check config/keystrokes.yaml; } >/dev/null &
warm=$!
trap 'kill $warm; exit 130' INT TERM # what runs beside a shell does not hear Ctrl-C

NUMBA_BOUNDSCHECK=1 STREAMRNN_CACHE_DIR=$PWD/build/boundscheck "$python" -m pytest -q -p no:cacheprovider \
    tests/test_sequence.py tests/test_window.py tests/test_detector.py tests/test_calibrator.py tests/test_scaler.py \
    tests/test_readout.py tests/test_lru.py tests/test_ngram.py tests/test_mixture.py \
    'tests/test_addresses.py::test_answers_are_the_same_wherever_arrays_lie[gru]' \
    'tests/test_addresses.py::test_answers_are_the_same_wherever_arrays_lie[ensemble]'
checked=$?
wait $warm && exit $checked

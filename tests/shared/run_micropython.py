# Runs one shared test file under MicroPython: run_micropython.py FIRMWARE TESTS FILE
# Prints one line a test: "pass NAME" or "fail NAME", a failure's traceback indented behind it; then "ran N".
import gc
import sys

sys.path[:] = [sys.argv[1], sys.argv[2], ".frozen"]


def _load(path):
    module = {"__name__": "shared_test", "__file__": path}
    with open(path) as source:
        exec(compile(source.read(), path, "exec"), module)  # noqa: S102 - a test runner runs test files
    return module


def main():
    gc.threshold(128 * 1024)
    module = _load(sys.argv[3])
    ran = 0
    for name in sorted(name for name in module if name.startswith("test_")):
        ran += 1
        try:
            module[name]()
        except Exception as error:
            print("fail", name)
            sys.print_exception(error)
        else:
            print("pass", name)
    print("ran", ran)


main()

"""Every file that Jupyter opens is read, some that it does not as well, and the rest is refused with a clear sentence."""

from __future__ import annotations

import json
import re
import tracemalloc

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.errors import SubmissionError
from grader.notebook.reader import read_notebook


def code(source, **more):
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source, **more}


def text(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def pack(*cells, **more):
    document = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more
    return json.dumps(document).encode()


def kinds(notebook):
    return [notice.kind for notice in notebook.notices]


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_code_cells_keep_their_index_among_all_cells():
    notebook = read_notebook(pack(text("# Title"), code("a = 1"), text("b"), code(["b = 2\n", "c = 3"])))
    assert [(cell.index, cell.source) for cell in notebook.cells] == [
        (1, "a = 1"),
        (3, "b = 2\nc = 3"),
    ]
    assert notebook.cell_count == 4
    assert notebook.notices == ()
    assert notebook.adaptations == ()


def test_same_cells_as_nbformat_reads():
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 'å'\ny"), nbformat.v4.new_markdown_cell("m")])
    assert sources(read_notebook(nbformat.writes(made).encode())) == [made.cells[0].source]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings(encoding):
    notebook = read_notebook(pack(code("a = 'åß漢'")).decode().encode(encoding))
    assert sources(notebook) == ["a = 'åß漢'"]
    assert len(notebook.notices) == 1


def test_windows_1252_is_read_and_said():
    data = pack(code("PLACE")).replace(b"PLACE", b"a = '\xe5'")
    notebook = read_notebook(data)
    assert sources(notebook) == ["a = 'å'"]
    assert kinds(notebook) == ["encoding"]


def test_line_ends_and_odd_characters():
    notebook = read_notebook(pack(code("a\r\nb\rc\x00d"), code("\ufeffe"), code("f'\ud83d'")))
    assert sources(notebook)[:2] == ["a\nb\ncd", "e"]
    assert sources(notebook)[2].encode().startswith(b"f'")  # a lone surrogate could not be encoded
    assert [n.text for n in notebook.notices] == ["NUL characters were taken out of cell 1."]


def test_crlf_file_and_raw_control_characters():
    data = json.dumps(json.loads(pack(code("a"))), indent=1).replace("\n", "\r\n").replace('"a"', '"a\tb"').encode()
    assert sources(read_notebook(data)) == ["a\tb"]


def test_missing_metadata_ids_and_version():
    assert sources(read_notebook(b'{"cells": [{"cell_type": "code", "source": "a"}]}')) == ["a"]


def test_duplicate_ids_and_students_tags_do_not_matter():
    tagged = code("a", id="x") | {"metadata": {"tags": ["skip-execution", "raises-exception"]}}
    notebook = read_notebook(pack(tagged, code("b", id="x")))
    assert sources(notebook) == ["a", "b"]


def test_format_3_has_worksheets_and_input():
    document = nbformat.v3.new_notebook(
        worksheets=[
            nbformat.v3.new_worksheet(cells=[nbformat.v3.new_heading_cell("T"), nbformat.v3.new_code_cell("a = 1")]),
            nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("b = 2")]),
        ]
    )
    notebook = read_notebook(json.dumps(document).encode())
    assert [(cell.index, cell.source) for cell in notebook.cells] == [(1, "a = 1"), (2, "b = 2")]
    assert kinds(notebook) == ["old-format"]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("ends", ["", "\n", "\r\n"])
def test_lines_of_old_formats_may_lack_their_ends(version, ends):
    lines = [f"if True:{ends}", f"    a = 1{ends}", ends, "print(a)"]
    cell = {"cell_type": "code", "language": "python", "input": lines, "outputs": []}
    document = {"nbformat": version, "metadata": {}, "worksheets": [{"cells": [cell]}]}
    assert sources(read_notebook(json.dumps(document).encode())) == ["if True:\n    a = 1\n\nprint(a)"]


def test_some_lines_of_old_formats_may_lack_their_ends():
    cell = {"cell_type": "code", "input": ["\n", "if a:", "    b\n", "c"], "outputs": []}
    document = {"nbformat": 2, "worksheets": [{"cells": [cell]}]}
    assert sources(read_notebook(json.dumps(document).encode())) == ["\nif a:\n    b\nc"]


def test_pieces_of_format_4_are_joined_as_they_are():
    assert sources(read_notebook(pack(code(["a = ", "1\n", "b"])))) == ["a = 1\nb"]


def test_format_4_0_with_string_source():
    notebook = read_notebook(pack(code("a\nb"), nbformat_minor=0))
    assert sources(notebook) == ["a\nb"]


def test_damaged_cells_are_named_and_the_others_kept():
    notebook = read_notebook(
        pack("no cell", {"cell_type": "video"}, code(["a", 7]), code(None), code({"x": 1}), code("b"))
    )
    assert sources(notebook) == ["a", "", "", "b"]
    assert kinds(notebook) == ["bad-cell"] * 4
    named = [re.match(r"Cell \d", notice.text)[0] for notice in notebook.notices]
    assert named == ["Cell 1", "Cell 2", "Cell 3", "Cell 5"], "counted from 1, as everywhere in a report"


def test_cell_without_type_is_code_when_it_has_outputs():
    cell = code("a")
    del cell["cell_type"]
    assert sources(read_notebook(pack(cell, {"source": "text"}))) == ["a"]


def test_envelope_of_the_contents_service_and_string_in_string():
    inner = json.loads(pack(code("a")))
    assert sources(read_notebook(json.dumps({"type": "notebook", "content": inner}).encode())) == ["a"]
    assert sources(read_notebook(json.dumps(json.dumps(inner)).encode())) == ["a"]


def test_text_after_the_end_is_ignored_and_said():
    assert kinds(read_notebook(pack(code("a")) + b"\n<<garbage")) == ["trailing-text"]
    assert kinds(read_notebook(pack(code("a")) + b"\0\0\n")) == []


def test_notebook_without_code_is_read_with_a_notice():
    assert kinds(read_notebook(pack(text("only text")))) == ["no-code"]
    assert kinds(read_notebook(pack())) == ["no-code"]


def test_fifty_megabytes_of_outputs():
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 1_000_000}
    data = pack(*[code(f"a{i}") | {"outputs": [output]} for i in range(50)])
    tracemalloc.start()
    notebook = read_notebook(data)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(notebook.cells) == 50
    assert kept < 1_000_000  # no output survives


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b" \n\0", "empty"),
        (b"%PDF-1.7\n...", "PDF file renamed"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x89PNG\r\n", "PNG"),
        (b"\xd0\xcf\x11\xe0\xa1", "Word"),
        (b"<!DOCTYPE html><html><body>", "HTML export"),
        (b"\n<html lang='en'>", "HTML export"),
        (b"import torch\n\ndef f(x):\n    return x\n", "Python script"),
        (b"import torch\n!pip install x\n", "Python script"),
        (b"---\ntitle: x\n---\n```python\na\n```\n", "Markdown"),
        (b"hello", "starts with 'hello'"),
        (b"[1, 2]", "a list"),
        (b"3", "type int"),
        (b'{"paragraphs": [], "name": "zeppelin"}', "name, paragraphs"),
        (b'{"cells": {"a": 1}}', "without a list of cells"),
        (b"[" * 100_000, "nests"),
        (b'{"cells": [{"source": "a" "b"}]}', "damaged: it is no valid JSON at line 1"),
    ],
)
def test_other_files_are_named(data, words):
    with pytest.raises(SubmissionError, match=words):
        read_notebook(data)


def test_every_truncation_is_called_cut_off():
    data = json.dumps(json.loads(pack(code("print('hello')"), text("b"))), indent=1).encode()
    for length in range(2, len(data) - 1):
        with pytest.raises(SubmissionError, match=r"ends in the middle|damaged"):
            read_notebook(data[:length])


def test_merge_conflict():
    data = pack(code("a")).replace(
        b'"cells"', b'\n<<<<<<< HEAD\n"cells": [],\n=======\n"cells2": [],\n>>>>>>> b\n"cells"'
    )
    with pytest.raises(SubmissionError, match="merge conflict"):
        read_notebook(data)


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}, "R"),
        ({"language_info": {"name": "julia"}}, "Julia"),
        ({"kernelspec": {"name": "julia-1.9", "display_name": "Julia 1.9"}}, "Julia"),
        (
            {"kernelspec": {"name": "clojupyter", "language": "clojure"}, "language_info": {"name": "clojure"}},
            "Clojure",
        ),
        ({"kernelspec": {"name": "ocaml-jupyter", "display_name": "OCaml default", "language": "OCaml"}}, "OCaml"),
        ({"kernelspec": {"name": "ocaml-jupyter"}}, "OCaml"),
        ({"kernelspec": {"name": "wolframlanguage12", "language": "Wolfram Language"}}, "Wolfram Language"),
        ({"kernelspec": {"name": "xonsh", "display_name": "Xonsh (Python 3)", "language": "xonsh"}}, "Xonsh"),
        (
            {"kernelspec": {"name": ".net-csharp", "language": "C#"}, "language_info": {"name": "polyglot-notebook"}},
            "C#",
        ),
        ({"language_info": {"name": "a language nobody knows"}}, "A language nobody knows"),
    ],
)
def test_other_languages_are_refused(metadata, language):
    with pytest.raises(SubmissionError, match=f"written for {language}, not for Python"):
        read_notebook(pack(code("a"), metadata=metadata))


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        {"kernelspec": {"name": "deep-learning", "display_name": "My R&D environment"}},
        {"kernelspec": {"name": "ir"}, "language_info": {"name": "python"}},
        {"kernelspec": 3, "language_info": []},
        {"kernelspec": {"name": "pysparkkernel"}, "language_info": {"name": "spark", "mimetype": "text/x-python"}},
        {"kernelspec": {"name": "sagemath", "display_name": "SageMath 9", "language": "sage"}},
        {"kernelspec": {"name": "x", "language": ""}, "language_info": {"name": "ipython"}},
        {"colab": {"name": "Julia"}, "accelerator": "GPU"},
        [],
    ],
)
def test_python_and_unknown_kernels_are_accepted(metadata):
    assert sources(read_notebook(pack(code("a"), metadata=metadata))) == ["a"]


def test_limits(monkeypatch):
    with pytest.raises(SubmissionError, match="million characters of code"):
        read_notebook(pack(code("#" * 9_000_000)))
    monkeypatch.setattr("grader.notebook.reader.FILE_LIMIT", 20)
    with pytest.raises(SubmissionError, match=r"at most 0 MB are read\. Clear the outputs"):
        read_notebook(pack(code("a")))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_give_a_notebook_or_a_sentence(data):
    try:
        read_notebook(data)
    except SubmissionError as error:
        assert str(error).endswith(".") or str(error).endswith(").")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["cells", "source", "cell_type", "metadata", "worksheets", "input"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_gives_a_notebook_or_a_sentence(value):
    try:
        notebook = read_notebook(json.dumps({"cells": value, "metadata": value}).encode())
    except SubmissionError:
        return
    assert all(isinstance(cell.source, str) and cell.index < notebook.cell_count for cell in notebook.cells)

"What a learner's folder does where the disk or the record is not as one would like"
import errno, json, os
import pytest
from ulmfit_course import lab
from ulmfit_course.core import CourseError, file_hash

@pytest.fixture
def course(tmp_path, monkeypatch):
    "A course of three files, which can be changed, and the folder of a learner"
    source = tmp_path/'source'
    for i in range(3): write(source/f'nbs/{i}.ipynb', f'{{"lesson": {i}, "text": "{"x"*1000}"}}')
    monkeypatch.setattr(lab, 'course_files', lambda: {o.relative_to(source).as_posix(): o for o in sorted(source.rglob('*.ipynb'))})
    return source, tmp_path/'mine'

def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

def same(source, mine, but=()):
    names = [o.relative_to(source) for o in source.rglob('*.ipynb')]
    assert all((source/o).read_bytes() == (mine/o).read_bytes() for o in names if o.as_posix() not in but)
    assert [o.name for o in mine.rglob('.*')] == ['.course.json']   # nothing is left behind
    return True

@pytest.mark.parametrize('stop', range(4))
def test_a_copy_that_stops_anywhere_is_mended_by_the_next(course, monkeypatch, stop):
    "Also by one of a newer course"
    source, mine = course
    release = lambda name: [write(source/f'nbs/{i}.ipynb', f'{name} {i}') for i in range(3)]
    replace, done = os.replace, []
    def full(a, b, **kw):
        if len(done) == stop: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(b))
        done.append(b)
        return replace(a, b, **kw)
    release('first')
    lab.copy_course(mine)
    release('second')
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', full)
        with pytest.raises(CourseError, match='No space left.*make room') as e: lab.copy_course(mine)
    assert '\n' not in str(e.value)
    release('third')
    assert lab.copy_course(mine) == [] and same(source, mine)

def test_half_a_lesson_is_nobodys_work(course):
    source, mine = course
    lab.copy_course(mine)
    whole = (source/'nbs/1.ipynb').read_bytes()
    for half in (b'', whole[:1], whole[:-1]):
        (mine/'.course.json').unlink()
        (mine/'nbs/1.ipynb').write_bytes(half)
        assert lab.copy_course(mine) == [] and same(source, mine)
    for own in (b'{', whole + b'\n', b'mine'):
        if whole.startswith(own): continue
        (mine/'nbs/1.ipynb').write_bytes(own)
        assert lab.copy_course(mine) == ['nbs/1.ipynb'] and (mine/'nbs/1.ipynb').read_bytes() == own

@pytest.mark.parametrize('record', ['', '{', 'null', '[]', '7', '"a"', '{"nbs/1.ipynb": 7}', '{"nbs/1.ipynb": [7, null]}', '{"nbs/1.ipynb": {}}', '['*50_000, '\x00', '{"a": "b"}'])
def test_a_broken_record_keeps_what_differs(course, record):
    source, mine = course
    lab.copy_course(mine)
    write(mine/'nbs/1.ipynb', 'mine')
    write(mine/'.course.json', record)
    for _ in range(2): assert lab.copy_course(mine) == ['nbs/1.ipynb'] and same(source, mine, ['nbs/1.ipynb'])
    assert (mine/'nbs/1.ipynb').read_text() == 'mine'

def test_a_record_of_an_earlier_release(course):
    source, mine = course
    lab.copy_course(mine)
    write(mine/'nbs/1.ipynb', 'as an earlier release had it')
    write(mine/'.course.json', json.dumps({'nbs/1.ipynb': file_hash(mine/'nbs/1.ipynb')}))
    assert lab.copy_course(mine) == [] and same(source, mine)

@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written(course):
    _, mine = course
    mine.mkdir(mode=0o555)
    with pytest.raises(CourseError, match='Permission denied.*name a folder where you may write'): lab.copy_course(mine)

def test_what_cannot_be_a_folder(course, tmp_path):
    source, mine = course
    write(mine, 'a file')
    for to in (mine, mine/'below', tmp_path/('x'*300)):
        with pytest.raises(CourseError, match='name a folder where you may write') as e: lab.copy_course(to)
        assert '\n' not in str(e.value)

def test_nothing_is_written_where_nothing_is_new(course):
    _, mine = course
    lab.copy_course(mine)
    before = (mine/'.course.json').stat().st_mtime_ns
    lab.copy_course(mine)
    assert (mine/'.course.json').stat().st_mtime_ns == before

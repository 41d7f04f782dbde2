"The folder for a class: what is in it, what happens where something is missing, and an installation from it without a network"
import errno, hashlib, json, os, re, shutil, subprocess, sys, zipfile
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from ulmfit_course import kit as kits
from ulmfit_course.cli import main
from ulmfit_course.core import CourseError
from ulmfit_course.kit import Target, fetch_all, kit, lines_for, pins, readme, requirements, systems

root = Path(__file__).resolve().parent.parent
here = f'{sys.version_info[0]}.{sys.version_info[1]}'

@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    "The smallest classifier, and a slide in the place of a thousand"
    monkeypatch.setenv('ULMFIT_COURSE_PROFILE', 'tiny')
    def save_slides(out):
        (Path(out)/'00.html').write_text('a slide')
    monkeypatch.setattr(kits, 'save_slides', save_slides)

@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    "Stands for the demo's: only its files are copied here"
    folder = tmp_path_factory.mktemp('demo')
    for name in ('config.json', 'model.safetensors', 'vocab.json'): (folder/name).write_text(name)
    return folder

@pytest.fixture
def no_training(monkeypatch, bundle): monkeypatch.setattr(kits, 'app_bundle', lambda: bundle)

@pytest.fixture
def few(monkeypatch, bundle):
    "A course of a page and a lesson"
    monkeypatch.setattr(kits, 'models', lambda: kits.files_below(bundle, 'models/demo'))
    monkeypatch.setattr(kits, 'write_pages', lambda at: (at/'index.md').write_text('a page'))
    monkeypatch.setattr(kits, 'students_files', lambda at: {'nbs/00.ipynb': root/'nbs/00_thirty_minutes.ipynb'})

def test_what_is_in_it(tmp_path, no_training):
    out = tmp_path/'stick'
    told = kit(out)
    names = {f.relative_to(out).as_posix() for f in out.rglob('*') if f.is_file()}
    assert told['kept'] == [] and told['wheels'] == {} and told['files'] == len(names) and told['megabytes'] > 60
    assert {'README.md', 'SHA256SUMS', 'lessons/nbs/16_transformers.ipynb', 'lessons/students-edition.md', 'slides/00.html', 'models/demo/config.json',
            'models/wiki-large/config.json', 'teacher/index.html', 'teacher/16_transformers.md', 'teacher/key_16_transformers.html'} <= names
    outside = [n for n in names if not n.startswith('teacher/')]
    assert any(n.startswith('teacher/assignments/source') for n in names) and not any('exercises_' in n or 'key_' in n for n in outside)
    assert 'Solution' not in (out/'lessons/nbs/00_thirty_minutes.ipynb').read_text('utf8')
    said = dict(reversed(l.split('  ')) for l in (out/'SHA256SUMS').read_text().splitlines())
    assert set(said) == names - {'SHA256SUMS', '.course.json'}
    for name in ('README.md', 'models/demo/vocab.json'): assert said[name] == hashlib.sha256((out/name).read_bytes()).hexdigest()
    for f in (out/'teacher').glob('*.md'):   # links lead somewhere
        for to in re.findall(r'\]\((?!https?:|#)([^)#]+)', f.read_text('utf8')): assert (f.parent/to).exists(), f'{f.name}: {to}'

def test_what_was_changed_stays_and_what_is_missing_comes_again(tmp_path, few):
    out = tmp_path/'stick'
    kit(out)
    (out/'README.md').write_text('mine')
    (out/'models/demo/vocab.json').unlink()
    (out/'teacher/own.md').write_text('my own page')
    assert kit(out)['kept'] == ['README.md'] and (out/'README.md').read_text() == 'mine'
    assert (out/'models/demo/vocab.json').read_text() == 'vocab.json' and (out/'teacher/own.md').is_file()

@pytest.mark.parametrize('stop', [0, 3, 8])
def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path, monkeypatch, few, stop):
    replace, done = os.replace, []
    def full(a, b, **kw):
        if str(b).startswith(str(tmp_path/'stick')): done.append(b)
        if len(done) > stop: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(b))
        return replace(a, b, **kw)
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', full)
        with pytest.raises(CourseError, match='No space left') as e: kit(tmp_path/'stick')
    assert '\n' not in str(e.value)
    assert kit(tmp_path/'stick')['kept'] == [] and (tmp_path/'stick/SHA256SUMS').is_file()

@pytest.mark.parametrize('what,message', [(dict(wheels=['windows']), 'choose of linux-x86_64'), (dict(wheels=['macos-x86_64']), 'leave macos-x86_64 out'),
                                          (dict(python='2.7'), 'such as 3.12'), (dict(python='python3'), 'such as 3.12')])
def test_it_is_said_before_any_work(tmp_path, what, message):
    with pytest.raises(CourseError, match=message): kit(tmp_path/'stick', **what)
    assert not (tmp_path/'stick').exists()

def test_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(kits, 'find_spec', lambda name: None)
    with pytest.raises(CourseError, match='python -m ensurepip'): kit(tmp_path/'stick', ['linux-x86_64'])
    assert not (tmp_path/'stick').exists()

def test_without_the_means_for_slides(tmp_path, monkeypatch, few):
    def save_slides(out): raise CourseError('sphinx_revealjs missing')
    monkeypatch.setattr(kits, 'save_slides', save_slides)
    kit(tmp_path/'stick')
    assert 'none: sphinx_revealjs missing' in (tmp_path/'stick/README.md').read_text('utf8') and not (tmp_path/'stick/slides').exists()

def test_the_command(tmp_path, few, capsys):
    assert main(['kit', '--out', str(tmp_path/'stick'), '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['folder'] == str(tmp_path/'stick') and (tmp_path/'stick/README.md').is_file()
    assert main(['kit', '--out', str(tmp_path/'other'), '--wheels', 'linux-x86_64', 'amiga']) == 1
    assert "there is no platform 'amiga'" in capsys.readouterr().err and not (tmp_path/'other').exists()

# Wheels, from an index that is a folder

def a_wheel(folder, name, *requires, tag='py3-none-any', version='1.0'):
    path = folder/f'{name}-{version}-{tag}.whl'
    meta = '\n'.join(['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}', *(f'Requires-Dist: {r}' for r in requires)])
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr(f'{name}-{version}.dist-info/METADATA', meta)
        z.writestr(f'{name}-{version}.dist-info/WHEEL', f'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n')
        z.writestr(f'{name}-{version}.dist-info/RECORD', '')
    return path

@pytest.fixture
def index(tmp_path, monkeypatch):
    "What pip finds, and the folder that it fills, with the wheel of a course in it"
    there, folder = tmp_path/'index', tmp_path/'wheels'
    for o in (there, folder): o.mkdir()
    for k,v in dict(PIP_NO_INDEX='1', PIP_FIND_LINKS=str(there), PIP_CONFIG_FILE=os.devnull).items(): monkeypatch.setenv(k, v)
    a_wheel(folder, 'ulmfit_course', 'network>=1', 'lab_tool; extra == "lab"', 'tester; extra == "dev"')
    for tag in ('cp311-cp311-win_amd64', 'cp311-cp311-macosx_11_0_arm64', 'cp311-cp311-manylinux_2_28_x86_64'):
        a_wheel(there, 'network', 'colour; sys_platform == "win32"', 'plain[fast]', tag=tag)
    a_wheel(there, 'plain', 'quick; extra == "fast" and platform_system != "Windows"', 'old; python_version < "3.11"')
    for name in ('colour', 'quick', 'lab_tool', 'tester', 'old'): a_wheel(there, name)
    return there, folder

@pytest.mark.parametrize('platform,found', [('windows-x86_64', {'colour'}), ('macos-arm64', {'quick'}), ('linux-x86_64', {'quick'})])
def test_each_platform_gets_what_it_needs(index, platform, found):
    _, folder = index
    wheels = fetch_all(folder, Target(platform, '3.11'), ['lab'])
    assert set(wheels) == {'ulmfit-course', 'network', 'plain', 'lab-tool'} | found
    system = platform.split('-')[0].replace('windows', 'win')
    assert system[:3] in wheels['network'].name.replace('manylinux', 'linux')
    assert [*Path(folder).glob('.coming-*')] == []

def test_what_lies_there_is_not_fetched_again(index, monkeypatch):
    there, folder = index
    first = fetch_all(folder, Target('linux-x86_64', '3.11'), ['lab'])
    shutil.rmtree(there)   # nothing can be had any more
    assert fetch_all(folder, Target('linux-x86_64', '3.11'), ['lab']) == first
    first['plain'].write_bytes(first['plain'].read_bytes()[:50])   # a copy that broke off
    with pytest.raises(CourseError, match='not every wheel for linux-x86_64 and Python 3.11: .*plain') as e:
        fetch_all(folder, Target('linux-x86_64', '3.11'), ['lab'])
    assert '\n' not in str(e.value)

def test_a_wheel_of_another_version_is_not_taken(index, monkeypatch):
    there, folder = index
    monkeypatch.setattr(kits, 'pins', lambda target: {'plain': '1.0'})
    a_wheel(folder, 'plain', 'nowhere', version='2.0')
    assert fetch_all(folder, Target('linux-x86_64', '3.11'), ())['plain'].name == 'plain-1.0-py3-none-any.whl'

def test_pip_installs_from_the_file_and_checks_the_hashes(index, tmp_path):
    there, folder = index
    wheels = fetch_all(folder, Target('linux-x86_64', '3.11'), ['lab'])
    shutil.rmtree(there)
    names = ('plain', 'quick', 'lab-tool')
    (tmp_path/'some.txt').write_text(requirements({n: wheels[n] for n in names}))
    def install(): return subprocess.run([sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--find-links', folder, '--target', tmp_path/'there',
                                          '-r', tmp_path/'some.txt'], capture_output=True, text=True)
    done = install()
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheels['quick'], 'a') as z: z.writestr('more', 'which nobody asked for')
    assert 'DO NOT MATCH THE HASHES' in install().stderr

@pytest.mark.parametrize('platform', systems)
def test_the_versions_are_those_of_the_tests(platform):
    pinned = pins(Target(platform, '3.11'))
    assert {'torch', 'fastai', 'jupyterlab', 'transformers'} <= set(pinned)
    assert all(re.fullmatch(r'\d[\w.]*', v) for v in pinned.values())
    lines = (root/'constraints.txt').read_text('utf8').splitlines()
    assert f'torch=={pinned["torch"]}' in [l.split(';')[0] for l in lines]

def test_linux_takes_no_wheel_of_a_newer_system():
    old, new = (Target('linux-x86_64', '3.11').holds(Requirement(f'a; {m}')) for m in ('sys_platform == "linux"', 'platform_machine == "arm64"'))
    assert old and not new
    fits = {str(t) for t in Target('linux-x86_64', '3.11').fits}
    assert 'cp311-cp311-manylinux_2_28_x86_64' in fits and 'cp38-abi3-manylinux2014_x86_64' in fits and 'cp311-cp311-manylinux_2_39_x86_64' not in fits

def test_the_readme_says_two_lines_for_each_platform():
    text = readme(systems, '3.12')
    for p in systems:
        assert lines_for(p, '3.12') in text and len(lines_for(p, '3.12').splitlines()) == 2
    assert 'py -3.12 -m venv' in text and 'no wheels' not in text and 'no wheels' in readme((), '3.12')

# For real

def this_platform():
    import platform
    machine = {'AMD64': 'x86_64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine())
    return f"{dict(Linux='linux', Windows='windows', Darwin='macos')[platform.system()]}-{machine}"

@pytest.mark.slow
def test_an_installation_without_a_network_runs_a_lesson(tmp_path, no_training, capfd):
    "The two lines of the README in a new environment whose every way out is shut, and then lesson 00"
    try: told = kit(tmp_path/'stick', [this_platform()])
    except CourseError as e: pytest.skip(f'wheels cannot be had here: {e}')
    assert told['wheels'][this_platform()] > 100
    make, install = lines_for(this_platform(), here).splitlines()
    shut = {f'{k}_PROXY': 'http://127.0.0.1:9' for k in ('HTTP', 'HTTPS', 'ALL')}
    env = {k: v for k,v in os.environ.items() if not re.match(r'PIP_|PYTHONPATH|JUPYTER', k)} | shut | {k.lower(): v for k,v in shut.items()}
    env |= dict(PIP_NO_INDEX='1', PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR='1', HOME=str(tmp_path), ULMFIT_COURSE_HOME=str(tmp_path/'home'))
    def run(line, where=tmp_path/'stick'):
        done = subprocess.run(line, cwd=where, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f'{line}: {(done.stdout + done.stderr)[-2000:]}'
        return done.stdout
    run([sys.executable, *make.split()[1:]])
    at = tmp_path/'stick'/Path(install.split()[0].replace('\\', '/')).parent
    run([at/'python', '-m', *install.replace('\\', '/').split('/', 2)[2].split()])
    copied = run([at/'python', '-c', "from ulmfit_course.editions import copy_lessons; print(copy_lessons('mine', True))"], tmp_path)
    assert copied.strip() == '[]'
    run([at/'jupyter', 'execute', '--inplace', '00_thirty_minutes.ipynb'], tmp_path/'mine/nbs')
    lesson = (tmp_path/'mine/nbs/00_thirty_minutes.ipynb').read_text('utf8')
    assert 'not yet written' in lesson and 'Hint 2' in lesson and 'Solution' not in lesson and '"output_type": "error"' not in lesson
    assert 'site-packages' in run([at/'python', '-c', 'import ulmfit_course; print(ulmfit_course.__file__)'], tmp_path)

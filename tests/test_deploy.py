"A class on a server: what Docker, JupyterHub, Binder, a devcontainer and Colab are told fits the tree; and, where they run, that two learners work there"
import fnmatch, json, os, re, shlex, shutil, socket, subprocess, sys, time
from configparser import ConfigParser
from pathlib import Path
import pytest, requests, yaml
from traitlets.config import Config
from ulmfit_course.cli import parser

root = Path(__file__).resolve().parent.parent
deploy = root/'deploy'
settings = ConfigParser(interpolation=None)
settings.read(root/'settings.ini', encoding='utf8')
settings = settings['DEFAULT']
passwords = dict(CLASS_PASSWORD='a word for all of us', TEACHER_PASSWORD='one of my own, which is long enough to be one')

def steps(dockerfile):
    "`(instruction, rest)` of each step"
    text = re.sub(r'\\\n\s*', '', dockerfile.read_text('utf8'))
    return [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith('#')]

def copied(dockerfile): return [source for word,rest in steps(dockerfile) if word == 'COPY' for source in rest.split()[:-1]]

def test_what_an_image_copies_is_there():
    ignored = [o for o in (root/'.dockerignore').read_text('utf8').splitlines() if o]
    for source in copied(root/'Dockerfile'):
        assert (root/source).exists(), source
        assert not any(fnmatch.fnmatch(source, o.removeprefix('**/')) for o in ignored), f'{source} is ignored'
    for source in copied(deploy/'hub.Dockerfile'): assert (deploy/source).exists(), source

def test_the_image_runs_as_a_learner_and_starts_the_lab():
    found = steps(root/'Dockerfile')
    assert [rest for word,rest in found if word == 'USER'] == ['learner']
    python = re.match(r'python:3\.(\d+)-slim', next(rest for word,rest in found if word == 'FROM'))[1]
    first, last = (int(settings[k].split('.')[1]) for k in ('min_python', 'max_python'))
    assert first <= int(python) <= last
    assert (root/'.binder/runtime.txt').read_text('utf8').strip() == f'python-3.{python}'
    program, *words = json.loads(next(rest for word,rest in found if word == 'CMD'))
    a = parser().parse_args(words)
    assert program == 'ulmfit-course' and (a.folder, a.port, a.no_browser) == ('lessons', 8888, True)
    hub = re.search(r'jupyterhub==([\d.]+)', (root/'Dockerfile').read_text('utf8'))[1]
    assert f'jupyterhub=={hub}\n' in (deploy/'hub-requirements.txt').read_text('utf8'), 'hub and learners have one version'

def test_the_image_has_all_that_the_package_is_made_of(tmp_path):
    for source in copied(root/'Dockerfile'):
        if (root/source).is_dir(): shutil.copytree(root/source, tmp_path/source, ignore=shutil.ignore_patterns('pretrained', '__pycache__'))
        elif '/' not in source: shutil.copy(root/source, tmp_path)
    subprocess.run([sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib', tmp_path/'made'], cwd=tmp_path, check=True, capture_output=True)
    made = tmp_path/'made/ulmfit_course'
    for name in ('course/nbs/index.ipynb', 'course/bench/results/app.json', 'course/LICENSE', 'assets/app/front.html', 'app.py'): assert (made/name).is_file(), name

def test_compose_says_what_the_hub_asks_for(monkeypatch):
    plan = yaml.safe_load((deploy/'compose.yaml').read_text('utf8'))
    hub, course = plan['services']['hub'], plan['services']['course']
    assert (deploy/course['build']['context']/'Dockerfile').resolve() == root/'Dockerfile' and (deploy/hub['build']['dockerfile']).is_file()
    asked = set(re.findall(r"(?:said|environ\.get)\('(\w+)'", (deploy/'jupyterhub_config.py').read_text('utf8')))
    assert asked == set(hub['environment'])
    c = hub_config(monkeypatch)
    assert c.DockerSpawner.image == course['image'] and c.DockerSpawner.network_name == plan['networks']['course']['name']
    assert c.JupyterHub.hub_connect_ip in plan['services'] and hub['networks'] == ['course']
    assert {v.split(':')[0] for v in hub['volumes'] if not v.startswith(('/', '.'))} == set(plan['volumes'])
    state = next(v.split(':')[1] for v in hub['volumes'] if v.startswith('state:'))
    assert c.JupyterHub.cookie_secret_file.startswith(state) and state in c.JupyterHub.db_url
    home = next(rest for word,rest in reversed(steps(root/'Dockerfile')) if word == 'WORKDIR')
    assert list(c.DockerSpawner.volumes.values()) == [home] and '{username}' in next(iter(c.DockerSpawner.volumes))
    assert dict([rest.split('=') for word,rest in steps(root/'Dockerfile') if word == 'ENV'])['ULMFIT_COURSE_HOME'].startswith(home + '/')
    assert c.Spawner.mem_limit == '2G' and c.DockerSpawner.cmd == ['learner']

def hub_config(monkeypatch, **said):
    "What the file sets"
    for name,value in (passwords | said).items(): monkeypatch.setenv(name, value)
    c = Config()
    exec(compile((deploy/'jupyterhub_config.py').read_text('utf8'), 'jupyterhub_config.py', 'exec'), dict(get_config=lambda: c))
    return c

def test_a_hub_without_passwords_does_not_start(monkeypatch):
    with pytest.raises(SystemExit, match='CLASS_PASSWORD is not set: write a line'): hub_config(monkeypatch, CLASS_PASSWORD='')

def runs(*words): return shutil.which(words[0]) and subprocess.run(words, capture_output=True).returncode == 0

@pytest.mark.skipif(not runs('docker', 'compose', 'version'), reason='no Docker Compose on this machine')
def test_compose_reads_its_file():
    done = subprocess.run(['docker', 'compose', '--file', deploy/'compose.yaml', 'config', '--format', 'json'], env=os.environ | passwords, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)['services']) == {'hub', 'course'}

# Elsewhere

def test_binder_and_devcontainer_install_what_the_makefile_does():
    script = root/'.binder/postBuild'
    assert os.access(script, os.X_OK) and subprocess.run(['bash', '-n', script]).returncode == 0
    installs = [shlex.split(line)[2:] for line in script.read_text('utf8').splitlines() if line.startswith('pip install')]
    assert all(words[words.index('-c')+1] == 'constraints.txt' for words in installs) and len(installs) == 2
    assert {'torch', 'torchvision', '--no-deps', 'https://download.pytorch.org/whl/cpu'} <= set(installs[0]) and installs[1][-1] == '.[lab]'
    told = json.loads((root/'.devcontainer/devcontainer.json').read_text('utf8'))
    known = {'name', 'image', 'hostRequirements', 'postCreateCommand', 'forwardPorts', 'customizations'}   # as containers.dev has them
    assert set(told) == known and set(told['hostRequirements']) == {'cpus', 'memory'} and re.fullmatch(r'\d+gb', told['hostRequirements']['memory'])
    program, path = told['postCreateCommand'].split()
    assert program == 'bash' and (root/path) == script and all(isinstance(o, int) for o in told['forwardPorts'])
    assert all((root/o).is_file() for o in told['customizations']['codespaces']['openFiles'])

colab = """
import sys
sys.path.insert(0, {old!r})
import ipywidgets, pandas as pd
from IPython.core.formatters import DisplayFormatter
assert ipywidgets.__version__ == '7.7.1'
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.models import load_pretrained
from ulmfit_course.tokenization import WordTokenizer
from ulmfit_course.teaching import Guess, Quiz
from ulmfit_course.training_widgets import ScheduleDesigner
from ulmfit_course.widgets import Neighbours, PaddingViewer, Playground, TokenInspector
films = load_pretrained('imdb-small')
for panel in (TokenInspector(dict(words=WordTokenizer()), films.vocab), Neighbours(films, films), PaddingViewer([3, 5, 8]), Playground(dict(films=films)),
              ScheduleDesigner(), Quiz(('One?', dict(yes='It is.', no='It is one.'), 'yes'))):
    data = DisplayFormatter().format(panel)[0]
    assert data['text/html'] == panel.static_html() != '', panel
    assert data['application/vnd.jupyter.widget-view+json']['model_id'] == panel.model_id
print('shown')
"""

@pytest.mark.slow
def test_panels_are_shown_with_their_pictures_by_the_widgets_that_colab_has(tmp_path):
    "ipywidgets 7.7.1 shows a widget by `_ipython_display_`, which knows of no picture"
    got = subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', tmp_path/'old', 'ipywidgets==7.7.1', 'ipython_genutils'], capture_output=True, text=True)
    if got.returncode: pytest.skip(f'ipywidgets 7.7.1 cannot be had here: {got.stderr[-200:]}')
    done = subprocess.run([sys.executable, '-c', colab.format(old=str(tmp_path/'old'))], capture_output=True, text=True, env=os.environ | dict(ULMFIT_COURSE_PROFILE='tiny'))
    assert done.stdout.endswith('shown\n'), done.stderr[-3000:]

# Two learners at a hub

class Learner:
    "Somebody who logs in with a browser, and works"
    def __init__(self, url, name, password=passwords['CLASS_PASSWORD']):
        self.url, self.name, self.web = url, name, requests.Session()
        self.web.get(f'{url}/hub/login')
        self.answer = self.web.post(f'{url}/hub/login', data=dict(username=name, password=password, _xsrf=self.web.cookies.get('_xsrf', path='/hub/')))

    def start(self, seconds=120):
        "Ask for a server and wait for the lesson that it opens"
        self.web.get(f'{self.url}/hub/spawn/{self.name}')
        for _ in range(seconds):
            if (page := self.web.get(f'{self.url}/user/{self.name}/lab')).ok and f'/user/{self.name}/lab' in page.url: return self
            time.sleep(1)
        raise TimeoutError(page.text[-2000:])

    def ask(self, method, path, **kw):
        xsrf = {'X-XSRFToken': self.web.cookies.get('_xsrf', path=f'/user/{self.name}/') or ''}
        return self.web.request(method, f'{self.url}/user/{self.name}/api/{path}', headers=xsrf, **kw)

    def write(self, path, text): return self.ask('PUT', f'contents/{path}', json=dict(type='file', format='text', content=text))
    def read(self, path): return self.ask('GET', f'contents/{path}')
    def stop(self): return self.web.delete(f'{self.url}/hub/api/users/{self.name}/server', headers={'X-XSRFToken': self.web.cookies.get('_xsrf', path='/hub/')})

def two_learners(url):
    "Log in, find the lessons, write, come again: each finds what they wrote, and nothing of the other"
    assert Learner(url, 'eve', 'a guess').answer.status_code == 403
    ada, bob = Learner(url, 'ada').start(), Learner(url, 'bob').start()
    for who in (ada, bob):
        assert who.read('lessons/nbs/00_thirty_minutes.ipynb').ok
        assert who.write('lessons/mine.txt', f'by {who.name}').status_code == 201
    assert ada.web.get(f'{url}/user/bob/api/contents/lessons/mine.txt').status_code in (403, 404)
    assert ada.stop().status_code in (202, 204)
    time.sleep(5)
    assert Learner(url, 'ada').start().read('lessons/mine.txt').json()['content'] == 'by ada'
    assert bob.read('lessons/mine.txt').json()['content'] == 'by bob'

proxy = shutil.which('configurable-http-proxy')

@pytest.mark.slow
@pytest.mark.skipif(not runs('jupyterhub', '--version') or not proxy, reason='no JupyterHub with its proxy on this machine: pip install jupyterhub; npm install -g configurable-http-proxy')
def test_two_learners_with_folders_in_the_place_of_containers(tmp_path):
    "The configuration as it stands, but for Docker"
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for s in (a, b, c): s.bind(('127.0.0.1', 0))
        port, hub, api = (s.getsockname()[1] for s in (a, b, c))
    (tmp_path/'config.py').write_text(f'''
load_subconfig({str(deploy/'jupyterhub_config.py')!r})
c.JupyterHub.spawner_class = 'simple'
c.SimpleLocalProcessSpawner.home_dir_template = {str(tmp_path)!r} + '/{{username}}'
c.Spawner.cmd = [{str(deploy/'learner.sh')!r}, '--allow-root']
c.Spawner.environment = dict(JUPYTER_CONFIG_DIR={str(tmp_path/'jupyter')!r})
c.Spawner.env_keep = ['PATH', 'PYTHONPATH', 'LANG']
c.JupyterHub.bind_url = 'http://127.0.0.1:{port}'
c.JupyterHub.hub_ip, c.JupyterHub.hub_port, c.JupyterHub.hub_connect_ip = '127.0.0.1', {hub}, '127.0.0.1'
c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:{api}'
c.JupyterHub.db_url, c.JupyterHub.cookie_secret_file = 'sqlite:///{tmp_path}/hub.sqlite', '{tmp_path}/secret'
c.JupyterHub.services, c.JupyterHub.load_roles = [], []
''')
    with open(tmp_path/'log', 'w') as log:
        hub = subprocess.Popen(['jupyterhub', '--config', tmp_path/'config.py'], cwd=tmp_path, env=os.environ | passwords, stdout=log, stderr=log)
    url = f'http://127.0.0.1:{port}'
    try:
        until_it_answers(f'{url}/hub/login', hub, tmp_path/'log')
        two_learners(url)
    finally:
        hub.terminate()
        hub.wait(60)

def until_it_answers(url, process=None, log=None, seconds=120):
    for _ in range(seconds):
        assert process is None or process.poll() is None, log.read_text()[-3000:]
        try:
            if requests.get(url).ok: return
        except requests.ConnectionError: pass
        time.sleep(1)
    raise TimeoutError(log and log.read_text()[-3000:])

@pytest.mark.slow
@pytest.mark.skipif(not runs('docker', 'info') or not runs('docker', 'compose', 'version'), reason='Docker does not run on this machine')
@pytest.mark.skipif('GITHUB_ACTIONS' in os.environ and sys.version_info[:2] != (3, 12), reason='the image is the same for every Python outside it')
def test_two_learners_in_containers():
    "Both images are built; the hub starts a container for each learner, which has a limit of memory, and the folder outlives it"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    compose = ['docker', 'compose', '--project-name', f'ulmfit-course-test-{os.getpid()}', '--file', deploy/'compose.yaml']
    env = os.environ | passwords | dict(PORT=str(port), LEARNER_MEMORY='1G', LEARNER_CPUS='1')
    try:
        subprocess.run([*compose, 'up', '--build', '--detach'], env=env, check=True)
        assert subprocess.run(['docker', 'run', '--rm', 'ulmfit-course', 'id', '-un'], capture_output=True, text=True, check=True).stdout == 'learner\n'
        until_it_answers(f'http://127.0.0.1:{port}/hub/login')
        two_learners(f'http://127.0.0.1:{port}')
        limit = subprocess.run(['docker', 'inspect', '--format', '{{.HostConfig.Memory}}', 'jupyter-bob'], capture_output=True, text=True, check=True)
        assert int(limit.stdout) == 2**30
    finally:
        subprocess.run(['docker', 'rm', '--force', 'jupyter-ada', 'jupyter-bob'], capture_output=True)
        subprocess.run([*compose, 'down', '--volumes', '--rmi', 'local'], env=env, capture_output=True)
        subprocess.run(['docker', 'volume', 'rm', 'ulmfit-course-ada', 'ulmfit-course-bob'], capture_output=True)

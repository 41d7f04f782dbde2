"Start: a fresh process imports the library, or prints the command's help"
import subprocess, sys

unit, target = 'starts/s', None
cases = {'import': dict(what='import'), '--help': dict(what='help')}
quick = cases

def process(code):
    def work(): subprocess.run([sys.executable, *code], check=True, capture_output=True)
    return work, 1

def fastai(what): return process(['-c', 'from fastai.text.all import *'])
def ours(what): return process(['-c', 'import ulmfit_course'] if what == 'import' else ['-c', 'import sys; sys.argv = ["ulmfit-course", "--help"]; from ulmfit_course.cli import main; main()'])

def limit(machine, what):
    "Python itself"
    return machine['python starts/s']

def same():
    "Torch and fastai are not imported before they are used"
    code = 'import sys, ulmfit_course, ulmfit_course.cli; assert not {"torch", "fastai", "spacy", "pandas"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)

"What a run is: settings with one default each, that cannot be misspelt or changed, and make the command's options"
import argparse, subprocess, sys
from dataclasses import FrozenInstanceError, asdict, fields, replace
import pytest
from ulmfit_course.core import CourseError
from ulmfit_course.recipes import ClassifierRecipe, FinetuneRecipe, LMRecipe

recipes = LMRecipe, FinetuneRecipe, ClassifierRecipe
each = pytest.mark.parametrize('recipe', recipes, ids=lambda r: r.__name__)
other = dict(epochs=3, shards=5, lr=0.25, bs=7, seq_len=33, drop_mult=0.15, wd=0.125, clip=0.75, variable_bptt=True, num_sampled=11, seed=9, factor=1.5,
             lin_ftrs=20, window=99, max_tokens=1234, solve_last=True, balanced=True, C=0.25, clean='html,case', augment='swap', copies=3)

def parsed(recipe, *argv):
    "The settings that a command line names"
    parser = argparse.ArgumentParser()
    for name, keywords in recipe.options(): parser.add_argument(name, **keywords)
    return {k: v for k,v in vars(parser.parse_args(list(map(str, argv)))).items() if v is not None}

def argv_of(recipe, settings):
    for name, keywords in recipe.options():
        value = settings[keywords['dest']]
        if keywords.get('action'): yield from [name]*value
        else: yield from (name, *(value if isinstance(value, tuple) else (value,)))

@each
def test_left_out_options_leave_the_defaults(recipe): assert parsed(recipe) == {} and recipe().but(**parsed(recipe)) == recipe()

@each
def test_every_option_comes_back_as_it_was_given(recipe):
    settings = asdict(recipe()) | {k: v for k,v in other.items() if k in asdict(recipe())} | dict(epochs=(2, 0, 1, 4) if recipe is ClassifierRecipe else 3)
    wanted = recipe(**settings)
    again = recipe().but(**parsed(recipe, *argv_of(recipe, settings)))
    assert again == wanted and asdict(again) == settings
    named = {keywords['dest'] for _,keywords in recipe.options()}
    assert set(settings) - named <= {'direction', 'shares'}   # these two have options of their own, or none
    assert all(settings[k] != getattr(recipe(), k) for k in named), 'give each setting another value than its default'

@each
def test_each_option_says_what_it_does_and_its_default(recipe):
    for name, keywords in recipe.options():
        default = getattr(recipe(), keywords['dest'])
        assert name == '--' + keywords['dest'].replace('_', '-') and len(keywords['help']) > 5
        if default not in (None, False): assert (' '.join(map(str, default)) if isinstance(default, tuple) else str(default)) in keywords['help']

@each
def test_unknown_settings_are_errors(recipe):
    names = ', '.join(f.name for f in fields(recipe))
    with pytest.raises(CourseError, match=f"unknown setting 'lrr': {recipe.__name__} has {names}$"): recipe().but(lrr=1)
    with pytest.raises(TypeError): recipe(lrr=1)

@each
def test_a_recipe_is_frozen_and_prints(recipe):
    r = recipe()
    with pytest.raises(FrozenInstanceError): r.lr = 1
    assert r.but(lr=0.5).lr == 0.5 and r == recipe() and hash(r) == hash(recipe())
    assert eval(repr(r.but(lr=0.5))) == r.but(lr=0.5) == replace(r, lr=0.5) and '\n' not in repr(r)
    assert recipe(**asdict(r)) == r

@pytest.mark.parametrize('recipe,settings,says', [
    (LMRecipe, dict(epochs=0), 'epochs=0'), (LMRecipe, dict(bs=0), 'bs=0'), (FinetuneRecipe, dict(seq_len=0), 'seq_len=0'), (FinetuneRecipe, dict(shards=-1), 'shards=-1'),
    (LMRecipe, dict(direction='both'), 'choose one of fwd, bwd$'), (FinetuneRecipe, dict(direction='backwards'), "direction='backwards'"),
    (ClassifierRecipe, dict(epochs=(1, 1)), '2 epochs and 4 shares'), (ClassifierRecipe, dict(shares=(1,)*5), '4 epochs and 5 shares')])
def test_settings_without_a_meaning(recipe, settings, says):
    with pytest.raises(CourseError, match=says): recipe(**settings)
    with pytest.raises(CourseError, match=says) as e: recipe().but(**settings)
    assert '\n' not in str(e.value)

def test_shards_follow_the_epochs():
    assert (LMRecipe(epochs=4).n_shards, LMRecipe(epochs=4, shards=7).n_shards) == (4, 7)
    assert LMRecipe(direction='bwd').backwards and not LMRecipe().backwards

def test_a_head_of_one_layer_is_no_features():
    "0 on the command line, `None` in Python"
    assert ClassifierRecipe(lin_ftrs=0) == ClassifierRecipe(lin_ftrs=None) and ClassifierRecipe(lin_ftrs=0).lin_ftrs is None
    assert parsed(ClassifierRecipe, '--lin-ftrs', 0) == dict(lin_ftrs=0)
    assert ClassifierRecipe(epochs=[1, 1, 1, 2]) == ClassifierRecipe(epochs=(1, 1, 1, 2))   # as JSON gives them

def test_few_labels_are_solved_and_many_trained():
    few = ClassifierRecipe(epochs=(0, 0, 0, 0), lr=1e-2, lin_ftrs=None, window=10_000)
    for_labels = ClassifierRecipe.for_labels
    assert for_labels(799) == for_labels(4999, second=True) == few
    assert for_labels(499, in_domain=False) == few.but(epochs=(0, 0, 0, 10))
    assert for_labels(800) == ClassifierRecipe(epochs=(1, 1, 1, 8)) and for_labels(1000) == ClassifierRecipe() and for_labels(5000, second=True).epochs == (1, 1, 1, 2)
    assert for_labels(500, in_domain=False).epochs == (1, 1, 1, 14) and for_labels(10**6).epochs == (1, 1, 1, 2)

def test_no_torch_is_imported(tmp_path):
    code = "import sys, ulmfit_course.recipes as r; r.LMRecipe.options(); print([m for m in ('torch', 'fastai', 'numpy', 'pandas', 'fastcore') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip() == '[]'

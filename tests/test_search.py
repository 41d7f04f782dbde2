"Searches: grids in several processes, recipes that Optuna draws, trials that end early"
import optuna, pytest
from fastai.test_utils import synth_learner
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.recipes import ClassifierRecipe
from ulmfit_course.search import PruneTrial, pruned, recipe_space
from test_classifier import checkpoint, frame, words
optuna.logging.set_verbosity(optuna.logging.ERROR)

def always(prune):
    class Pruner(optuna.pruners.BasePruner):
        def prune(self, study, trial): return prune(trial)
    return Pruner()

def test_gradual_unfreezing_is_one_run_of_a_trial():
    "Every epoch of each of its four fits is reported, in order; a setting is drawn for each trial"
    train, valid, ck, recipes = frame(32), frame(16, 1), checkpoint(words), []
    def objective(trial):
        recipes.append(recipe_space(trial, ClassifierRecipe(epochs=(1, 1, 1, 2), bs=8, window=20), lr=(1e-3, 1e-1), window=[10, 20]))
        learn = train_classifier(train, valid, ck, recipes[-1], max_unknown=1., fit=pruned(trial, 'accuracy'))
        assert not any(isinstance(cb, PruneTrial) for cb in learn.cbs)
        return learn.final_record[-1]
    study = optuna.create_study(direction='maximize', sampler=optuna.samplers.RandomSampler(0), pruner=always(lambda t: t.number == 1 and t.last_step == 2))
    study.optimize(objective, n_trials=2)
    done, stopped = study.trials
    assert [*done.intermediate_values] == [0, 1, 2, 3, 4] and done.state.name == 'COMPLETE' and done.value == done.intermediate_values[4]
    assert [*stopped.intermediate_values] == [0, 1, 2] and stopped.state.name == 'PRUNED'
    assert len({r.lr for r in recipes}) == 2 and all(1e-3 <= r.lr <= 1e-1 and r.window in (10, 20) and r.epochs == (1, 1, 1, 2) for r in recipes)

def test_epochs_of_several_fits_are_counted_on():
    "Optuna keeps the first report of a step alone, so a count that begins anew with each fit would lose the later fits"
    set_seed(0)
    study = optuna.create_study()
    learn = synth_learner(n_trn=2, cbs=PruneTrial(study.ask()))
    with learn.no_bar(), learn.no_logging():
        for _ in range(2): learn.fit(2, 0.01)
    reported = study.trials[0].intermediate_values
    assert [*reported] == [0, 1, 2, 3] and [reported[2], reported[3]] == [v[1] for v in learn.recorder.values]
    with pytest.raises(CourseError, match="reports no 'f1'"): synth_learner(n_trn=2, cbs=PruneTrial(study.ask(), 'f1')).fit(1, 0.01)

def test_how_a_range_is_drawn():
    study = optuna.create_study()
    trial = study.ask()
    recipe = recipe_space(trial, ClassifierRecipe, lr=(1e-3, 1e-1), drop_mult=(0.3, 0.9), bs=(8, 64), lin_ftrs=[None, 50], epochs=[(1, 1, 1, 1), (0, 0, 0, 2)])
    kinds = {k: (type(d).__name__, getattr(d, 'log', None)) for k,d in trial.distributions.items()}
    assert kinds == dict(lr=('FloatDistribution', True), drop_mult=('FloatDistribution', False), bs=('IntDistribution', False),
                         lin_ftrs=('CategoricalDistribution', None), epochs=('CategoricalDistribution', None))
    assert recipe.lin_ftrs in (None, 50) and sum(recipe.epochs) in (2, 4) and isinstance(recipe.bs, int)
    for bad in (dict(rate=(1, 2)), dict(lr=3), dict(lr=(2, 1))):
        before = len(trial.distributions)
        with pytest.raises(CourseError): recipe_space(trial, ClassifierRecipe, **bad)
        assert len(trial.distributions) == before

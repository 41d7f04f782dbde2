"Training the head alone: 32 whole reviews a batch, forward through a frozen encoder"
from common import an_epoch, fastai_classifier, full, lstm_weights, reviews, silent, small, to_learn, tokens_a_review, words_of_10_000

unit, target, rounds = 'reviews/s', None, 1
cases = {'400/1152 x 3': dict(cfg=full, n=32), '256/512 x 3': dict(cfg=small, n=64)}
quick = {'256/512 x 3': dict(cfg=small, n=32)}

def head_alone(learn, n):
    learn.freeze()
    return an_epoch(learn), n

def fastai(cfg, n): return head_alone(fastai_classifier(cfg, reviews(n+32), n_train=n, bs=32), n)

def ours(cfg, n):
    from ulmfit_course.learners import text_classifier_learner
    from ulmfit_course.loaders import classifier_dataloaders
    frame = reviews(n+32)
    dls = classifier_dataloaders(frame[:n], frame[n:], words_of_10_000(), bs=32)
    return head_alone(text_classifier_learner(dls, None, config=cfg), n)

def limit(machine, cfg, n):
    "One product with each weight a token, in the quickest type to learn in"
    return to_learn(machine)/(2*sum(lstm_weights(cfg))*tokens_a_review())

def same():
    "No gradient below the head, and the weights there stay as they were"
    import torch
    from ulmfit_course.learners import text_classifier_learner
    from ulmfit_course.loaders import classifier_dataloaders
    frame, sizes = reviews(24), dict(emb_sz=12, n_hid=16, n_layers=2)
    learn = text_classifier_learner(classifier_dataloaders(frame[:16], frame[16:], words_of_10_000(), bs=8), None, config=sizes)
    learn.freeze()
    encoder = learn.model[0].module
    before = [o.detach().clone() for o in encoder.parameters()]
    with silent(learn): learn.fit(1, 1e-1)
    assert all(torch.equal(a, b) and b.grad is None for a,b in zip(before, encoder.parameters()))
    states, _ = learn.model[0](learn.dls.one_batch()[0])
    assert not states.requires_grad

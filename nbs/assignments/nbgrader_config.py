"nbgrader, for the assignments of the course: docs/teaching/assignments.md of the repository says how it is run"
c = get_config()  # noqa: F821

c.CourseDirectory.course_id = 'ulmfit'
c.CourseDirectory.include = ['*.ipynb', '*.csv', '*.json', '*.txt']  # what goes to students, and comes back
c.Execute.timeout = 600                          # seconds a cell may take; 30 are too few to train in
c.ClearSolutions.code_stub = {'python': 'raise NotImplementedError  # YOUR CODE HERE'}
c.FileNameCollectorPlugin.named_regexp = r'(?:.*[/\\])?(?P<student_id>[^_/\\]+)_(?P<file_id>\w+)'  # .../ada_1_tokenizer.ipynb

from flamlib.serve.refusals import Refused


def test_a_refusal_is_told_to_programs_and_people():
    told = Refused(413, "too_large", "More than 1 MB.").content()
    assert told == {"error": {"code": "too_large", "message": "More than 1 MB."}}

"""What a trained model is used for: events of a recording, embeddings, ONNX.

A module imports only from those before it:

    bars pieces detector embedded_recording review explorer questions sound_page edited_tables
    detect_many listener embedding export
"""
